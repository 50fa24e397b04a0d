// Curves by uPlot: one over all layers along the depth, or over the channels of a layer.

const plots = new Set();
const WHOLE_STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 50000];

/** Of the lines of a logarithmic axis only those at powers of ten. */
function keepDecade(y) {
  return Number.isInteger(Math.log10(y)) ? y : null;
}

/**
 * Draws curves over places 0, 1, 2, ...
 *
 * curves: [{ values, number, dash, points }], the number that of its colour. band: [values above, values below] or none.
 * scale: uPlot's options for y. format(y): for the axis. point(place or null): what is pointed at.
 */
function drawCurves(host, { curves, band, scale, format, point, height, sync }) {
  const size = curves[0].values.length;
  const lines = curves.map(({ values, number, dash, points }) => ({
    values,
    stroke: () => css(`--curve-${number}`),
    width: points ? 0 : 1.5,
    dash,
    points: { show: points || size < 2, size: 5, width: 1, fill: () => css(`--curve-${number}`) },
  }));
  const edges = (band || []).map((values) => ({ values, width: 0, points: { show: false } }));
  const series = [...lines, ...edges];
  const axis = { stroke: () => css("--faint"), font: "12px system-ui, sans-serif" };
  const rule = { stroke: () => css("--line"), width: 1 };
  const plot = new uPlot(
    {
      width: Math.max(host.clientWidth, 200),
      height,
      legend: { show: false },
      scales: { x: { time: false, range: [-0.5, Math.max(size, 1) - 0.5] }, y: scale },
      series: [{}, ...series.map(({ values, ...look }) => look)],
      bands: band ? [{ series: [lines.length + 1, lines.length + 2], fill: () => css("--curve-band") }] : [],
      axes: [
        { ...axis, size: 30, grid: { show: false }, ticks: { ...rule, size: 4 }, incrs: WHOLE_STEPS },
        {
          ...axis,
          size: 58,
          grid: scale.distr === 3 ? { ...rule, filter: (_, ys) => ys.map(keepDecade) } : rule,
          ticks: { show: false },
          values: (_, ys) => ys.map((y) => (y === null ? "" : format(y))),
        },
      ],
      cursor: { y: false, drag: { x: false, y: false, setScale: false }, points: { size: 7 }, sync },
      hooks: { setCursor: [(plot) => point && point(plot.cursor.left < 0 ? null : plot.cursor.idx)] },
    },
    [Array.from({ length: size }, (_, i) => i), ...series.map(({ values }) => values)],
    host,
  );
  plots.add(plot);
  new ResizeObserver(() => plots.has(plot) && host.clientWidth && plot.setSize({ width: host.clientWidth, height })).observe(host);
  return plot;
}

function forget(plot) {
  plots.delete(plot);
  plot.destroy();
}

function redrawCurves() {
  plots.forEach((plot) => plot.redraw(false));
}

/** An axis for these numbers: by decades around 0 where they differ by more than a factor of 1000. */
function scaleFor(values) {
  const sizes = Float64Array.from(values.filter((x) => Number.isFinite(x) && x !== 0).map(Math.abs));
  const middle = quantile(sizes, 0.5);
  return quantile(sizes, 1) > 1000 * middle ? { distr: 4, asinh: middle } : {};
}

/** The figures along the depth. page: what main.js knows. */
function drawDepth(host, page) {
  const { layers, threshold } = page;
  const finite = (values) => values.map((x) => (Number.isFinite(x) ? x : null));
  const mean = finite(layers.mean);
  const edge = (sign) => mean.map((x, i) => (x === null ? null : x + sign * (layers.std[i] || 0)));
  const above = edge(1);
  const below = edge(-1);
  const figures = [
    {
      title: "Mean and std",
      curves: [{ label: "mean", number: 1, values: mean }],
      band: [above, below],
      bandLabel: "± std",
      scale: scaleFor([...above, ...below]),
      format: formatNumber,
    },
    ...(layers.p50 ? [quantilesOf(layers)] : []),
    {
      title: "Largest magnitude",
      curves: [{ label: "max |x|, by decades", number: 1, values: layers.abs_max.map((x) => (x > 0 ? x : null)) }],
      scale: { distr: 3 },
      format: formatNumber,
    },
    {
      title: "Shares",
      curves: [
        { label: "sparsity", number: 1, values: layers.sparsity },
        { label: "dead channels", number: 2, values: layers.dead_share, dash: [6, 4] },
        { label: "saturated", number: 3, values: layers.saturated, points: true },
      ].filter(({ values }) => values.some((x) => x !== null)),
      scale: { range: [-0.02, 1.02] },
      format: (x) => `${Math.round(100 * x)}%`,
    },
  ];
  if (layers.nonfinite.some((x) => x > 0)) figures.push(nonfiniteOf(layers));
  if (layers.score) {
    figures.push({
      title: "Drift score",
      curves: [
        { label: "score", number: 1, values: layers.score },
        {
          label: `drift if >= ${formatNumber(threshold)}`,
          number: 2,
          values: layers.score.map(() => threshold),
          dash: [6, 4],
        },
      ].slice(0, threshold === null ? 1 : 2),
      scale: { range: (_, low, high) => [0, 1.08 * Math.max(high, threshold)] },
      format: formatNumber,
    });
  }
  const drawn = figures.filter(({ curves }) => curves.some(({ values }) => values.some((x) => x !== null)));
  drawn.forEach((figure) => addFigure(host, figure, page));
}

/** The figure of quantiles, where histograms were measured. */
function quantilesOf({ p1, p50, p99 }) {
  return {
    title: "Quantiles",
    curves: [{ label: "median", number: 1, values: p50 }],
    band: [p99, p1],
    bandLabel: "1 % to 99 % of the elements",
    scale: scaleFor([...p99, ...p1]),
    format: formatNumber,
  };
}

/** The figure of NaN and infinities, where there are any. */
function nonfiniteOf({ nan, inf }) {
  const some = (values) => values.map((x) => (x > 0 ? x : null));
  return {
    title: "Not finite",
    curves: [
      { label: "NaN, by decades", number: 2, values: some(nan), points: true },
      { label: "infinities", number: 3, values: some(inf), points: true },
    ].filter(({ values }) => values.some((x) => x !== null)),
    scale: { distr: 3 },
    format: formatNumber,
  };
}

function addFigure(host, { title, ...figure }, page) {
  const element = document.createElement("figure");
  element.className = "chart";
  const caption = document.createElement("figcaption");
  const name = document.createElement("span");
  name.textContent = title;
  caption.append(name);
  for (const { label, number, dash, points } of figure.curves) {
    caption.append(makeKey(label, `curve-${number}`, dash ? "dashed" : points ? "dotted" : ""));
  }
  if (figure.band) caption.append(makeKey(figure.bandLabel, "", "band"));
  const box = document.createElement("div");
  box.className = "plot";
  element.append(caption, box);
  host.append(element);
  const plot = drawCurves(box, { ...figure, height: 190, sync: { key: "depth" }, point: page.read });
  plot.over.addEventListener("click", () => plot.cursor.idx !== null && page.open(plot.cursor.idx));
  makePicker(box, {
    label: `${title} of each layer`,
    size: page.layers.name.length,
    describe: page.describe,
    show: (place) => plot.setCursor({ left: plot.valToPos(place, "x"), top: 0 }),
    hide: () => plot.setCursor({ left: -10, top: -10 }),
    open: page.open,
  });
}

function makeKey(text, colour, style) {
  const key = document.createElement("span");
  const swatch = document.createElement("span");
  swatch.className = `swatch ${colour} ${style}`;
  key.append(swatch, text);
  return key;
}
