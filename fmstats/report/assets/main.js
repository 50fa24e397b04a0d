// What the parts of the page know of each other.

/** A small box beside the pointer. */
class Tip {
  constructor(element) {
    this.element = element;
  }

  /** x: of what is pointed at. box: of the strip that it is in. rows: [label, text]. */
  show(x, box, title, rows) {
    const head = document.createElement("b");
    head.textContent = title;
    const list = document.createElement("dl");
    for (const [label, text] of rows) {
      const [term, number] = [document.createElement("dt"), document.createElement("dd")];
      term.textContent = label;
      number.textContent = text;
      list.append(term, number);
    }
    this.element.replaceChildren(head, list);
    this.element.hidden = false;
    const { offsetWidth: width, offsetHeight: height } = this.element;
    const below = box.bottom + 8 + height < innerHeight;
    this.element.style.left = `${Math.min(Math.max(x - width / 2, 8), innerWidth - width - 8)}px`;
    this.element.style.top = `${below ? box.bottom + 8 : Math.max(box.top - 8 - height, 8)}px`;
  }

  hide() {
    this.element.hidden = true;
  }
}

function makePage({ layers, findings, threshold }, statistics) {
  const starts = [0];
  layers.channels.forEach((count, i) => starts.push(starts[i] + count));
  const readout = document.getElementById("readout");
  const advice = readout.textContent;
  const choice = document.getElementById("statistic");
  const page = {
    layers,
    findings,
    threshold,
    statistics,
    channels: layers.channels,
    chosen: () => statistics.get(choice.value),
    slice: ({ values }, layer) => values.subarray(starts[layer], starts[layer + 1]),
    theme: css("--theme"),
    /** [label, text] of everything that is known of a channel. */
    numbersOf: (layer, channel) =>
      [...statistics.values()]
        .map((one) => [one.label, page.slice(one, layer)[channel], formatOf(one.kind)])
        .filter(([label, x]) => label === "mean" || !Number.isNaN(x))
        .map(([label, x, format]) => [label, format(x)]),
    describe: (layer) => {
      const shares = ["sparsity", "dead_share", "saturated"].filter((key) => layers[key][layer] !== null);
      return [
        layers.name[layer],
        ...["mean", "std", "abs_max"].map((key) => `${key === "abs_max" ? "max |x|" : key} ${formatNumber(layers[key][layer])}`),
        ...(layers.p50 ? ["p1", "p50", "p99"] : []).map((key) => `${key} ${formatNumber(layers[key][layer])}`),
        ...shares.map((key) => `${key === "dead_share" ? "dead channels" : key} ${formatShare(layers[key][layer])}`),
        ...(layers.score ? [`drift ${formatNumber(layers.score[layer])}`] : []),
      ].join(", ");
    },
    /** Shows the numbers of the layer that is pointed at. */
    read: (layer) => {
      const pointed = layer !== null && layer !== undefined;
      readout.textContent = pointed ? `${layer}: ${page.describe(layer)}` : advice;
      readout.classList.toggle("faint", !pointed);
    },
  };
  return page;
}

/** The ends of the colours, as numbers. */
function showKey(view, strips) {
  const { kind, values } = strips.statistic;
  const canvas = document.getElementById("key");
  const context = canvas.getContext("2d");
  const image = context.createImageData(256, 1);
  const colour = colourOf(kind, [0, 255], strips.page.theme);
  const pixels = new Uint32Array(image.data.buffer);
  for (let i = 0; i < 256; i++) pixels[i] = colour(i);
  context.putImageData(image, 0, 0);
  const [low, high] = rangeOf(kind, values);
  const everywhere = kind === "share" || view.span === "model";
  const signed = isSigned(kind);
  const format = formatOf(kind);
  document.getElementById("key-low").textContent = everywhere ? format(low) : signed ? "\u2212 the largest of its layer" : "0";
  document.getElementById("key-high").textContent = everywhere ? format(high) : "the largest of its layer";
}

/** signal: ends what the page and the window are listened to for. opened: the layer to open first, if any. */
async function main(signal, opened) {
  document.documentElement.classList.add("js");
  const data = JSON.parse(document.getElementById("data").textContent);
  if (!data.layers.name.length) return;
  const statistics = await unpackStatistics();
  if (signal.aborted) return; // another group is shown by now
  const page = makePage(data, statistics);
  const table = document.getElementById("table");
  const rows = [...table.tBodies[0].rows];
  rows.forEach((row, layer) => (row.dataset.layer = layer));

  const details = new Details(page);
  page.open = (layer) => {
    sorter.reveal(layer);
    details.show(layer);
  };
  drawDepth(document.getElementById("charts"), page);
  const strips = new Strips(rows, page, new Tip(document.getElementById("tip")), table.classList.contains("long"));
  const sorter = new Table(table, rows, page);

  const view = () => Object.fromEntries(["statistic", "span", "cells"].map((id) => [id, document.getElementById(id).value]));
  function changeView() {
    strips.change(view());
    showKey(view(), strips);
    sorter.heads.at(-1).firstElementChild.textContent = `channels by ${page.chosen().label}`;
    if (sorter.key === "statistic") sorter.sort(sorter.key, sorter.upwards);
    if (details.dialog.open) details.fillTable();
  }
  page.choose = (key) => {
    document.getElementById("statistic").value = key;
    changeView();
  };
  for (const id of ["statistic", "span", "cells"]) document.getElementById(id).addEventListener("change", changeView);
  changeView();

  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='#layer-']");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    history.replaceState(null, "", link.hash);
    page.open(Number(link.hash.slice("#layer-".length)));
  }, { signal });
  const map = document.getElementById("map");
  map.addEventListener("click", (event) => {
    const box = map.getBoundingClientRect();
    const layer = Math.floor(((event.clientX - box.left) / box.width) * rows.length);
    page.open(Math.min(Math.max(layer, 0), rows.length - 1));
  });

  function repaint() {
    page.theme = css("--theme");
    redrawCurves();
    changeView();
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint, { signal });
  const printed = () => {
    document.documentElement.classList.add("print");
    repaint();
    strips.drawAll();
  };
  addEventListener("beforeprint", printed, { signal });
  const shownAgain = () => {
    document.documentElement.classList.remove("print");
    repaint();
  };
  addEventListener("afterprint", shownAgain, { signal });
  if (opened < rows.length) page.open(opened);
}

/** Fills what is shown; later groups take the place of its elements. */
function start(signal, opened) {
  delete document.documentElement.dataset.ready;
  return main(signal, opened)
    .catch((error) => {
      // An old browser, say: findings, tables and metadata are there without scripts.
      document.getElementById("readout").textContent = `Curves and channels cannot be shown here: ${error.message}`;
      throw error;
    })
    .finally(() => {
      document.documentElement.dataset.ready = "yes";
    });
}

/** Has the list of groups show the numbers of one, which wait in a template. */
function offerGroups(place, listeners) {
  const whole = place.cloneNode(true); // before anything is drawn in it
  place.addEventListener("change", ({ target }) => {
    if (target.id !== "group") return;
    listeners.abort();
    listeners = new AbortController();
    plots.forEach(forget);
    const part = target.value ? document.getElementById(`group-${target.value}`).content : whole;
    place.replaceChildren(...part.cloneNode(true).childNodes);
    document.getElementById("group").focus();
    start(listeners.signal);
  });
}

const listeners = new AbortController();
const place = document.getElementById("profile");
if (place) offerGroups(place, listeners);
const linked = /^#layer-(\d+)$/.exec(location.hash);
start(listeners.signal, linked ? Number(linked[1]) : undefined);
