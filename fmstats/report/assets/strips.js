// A row of cells for the channels of a layer, one canvas pixel each, stretched by the browser.

const FEW = 256; // cells in a line, unless there would be too many lines
const MOST_LINES = 130;

class Strips {
  /** rows: the table's rows by layer. page: what main.js knows. long: strips are drawn only as they come near the view. */
  constructor(rows, page, tip, long) {
    this.page = page;
    this.tip = tip;
    this.view = { statistic: "mean", span: "layer", cells: "number" };
    this.inView = new Set();
    this.drawn = new Map(); // layer: what its canvas shows, [version, order of channels]
    this.version = 0;
    this.canvases = rows.map((row, layer) => this.addCanvas(row, layer));
    if (long) {
      const observer = new IntersectionObserver((entries) => this.see(entries), { rootMargin: "600px" });
      rows.forEach((row) => observer.observe(row));
    } else rows.forEach((_, layer) => this.inView.add(layer));
    this.rove(0);
  }

  get statistic() {
    return this.page.statistics.get(this.view.statistic);
  }

  addCanvas(row, layer) {
    const size = this.page.channels[layer];
    const canvas = document.createElement("canvas");
    let columns = FEW;
    while (Math.ceil(size / columns) > MOST_LINES) columns *= 2;
    canvas.width = Math.max(Math.min(size, columns), 1);
    canvas.height = Math.max(Math.ceil(size / columns), 1);
    const line = canvas.height === 1 ? 22 : canvas.height === 2 ? 11 : canvas.height < 5 ? 7 : canvas.height < 20 ? 5 : 2;
    canvas.style.height = `${line * canvas.height}px`;
    canvas.dataset.layer = layer;
    row.lastElementChild.append(canvas);
    makePicker(canvas, {
      label: `Channels of ${this.page.layers.name[layer]}`,
      size,
      describe: (place) => this.describe(layer, place),
      show: (place) => this.showTip(layer, place),
      hide: () => this.tip.hide(),
      open: () => this.page.open(layer),
      move: (event) => this.moveFocus(event, layer),
    });
    canvas.tabIndex = -1;
    canvas.addEventListener("pointermove", (event) => {
      const place = this.placeAt(canvas, event);
      if (place < size) this.showTip(layer, place, event);
      else this.tip.hide();
    });
    canvas.addEventListener("pointerleave", () => this.tip.hide());
    canvas.addEventListener("click", () => this.page.open(layer));
    return canvas;
  }

  /** One strip alone is reached by Tab; up and down go from strip to strip. */
  rove(layer) {
    this.canvases.forEach((canvas, other) => (canvas.tabIndex = other === layer ? 0 : -1));
  }

  moveFocus(event, layer) {
    const next = { ArrowUp: "previousElementSibling", ArrowDown: "nextElementSibling" }[event.key];
    if (!next) return false;
    let row = this.canvases[layer].closest("tr")[next];
    while (row && (row.hidden || row.classList.contains("block"))) row = row[next];
    if (row) {
      const canvas = row.querySelector("canvas");
      this.rove(Number(canvas.dataset.layer));
      canvas.focus();
    }
    return true;
  }

  placeAt(canvas, event) {
    const box = canvas.getBoundingClientRect();
    const column = Math.floor(((event.clientX - box.left) / box.width) * canvas.width);
    const line = Math.floor(((event.clientY - box.top) / box.height) * canvas.height);
    return Math.max(line, 0) * canvas.width + Math.max(column, 0);
  }

  see(entries) {
    for (const { target, isIntersecting } of entries) {
      const layer = Number(target.dataset.layer);
      if (isIntersecting) this.inView.add(layer);
      else this.inView.delete(layer);
      if (isIntersecting) this.draw(layer);
    }
  }

  /** Shows another statistic, range or order. */
  change(view) {
    Object.assign(this.view, view);
    this.version += 1;
    this.range = this.view.span === "model" ? rangeOf(this.statistic.kind, this.statistic.values) : null;
    this.inView.forEach((layer) => this.draw(layer));
  }

  drawAll() {
    this.canvases.forEach((_, layer) => this.draw(layer));
  }

  draw(layer) {
    const [version] = this.drawn.get(layer) || [];
    if (version === this.version) return;
    const { kind } = this.statistic;
    const values = this.page.slice(this.statistic, layer);
    const order = this.view.cells === "value" ? sortChannels(values) : null;
    this.drawn.set(layer, [this.version, order]);
    if (!values.length) return;
    const canvas = this.canvases[layer];
    const context = canvas.getContext("2d");
    const image = context.createImageData(canvas.width, canvas.height);
    const pixels = new Uint32Array(image.data.buffer);
    const colour = colourOf(kind, this.range || rangeOf(kind, values), this.page.theme);
    for (let i = 0; i < values.length; i++) pixels[i] = colour(values[order ? order[i] : i]);
    context.putImageData(image, 0, 0);
  }

  channelAt(layer, place) {
    this.draw(layer);
    const [, order] = this.drawn.get(layer);
    return order ? order[place] : place;
  }

  describe(layer, place) {
    const channel = this.channelAt(layer, place);
    const numbers = this.page.numbersOf(layer, channel).map(([label, text]) => `${label} ${text}`);
    return `channel ${channel}: ${numbers.join(", ")}`;
  }

  showTip(layer, place, event) {
    const canvas = this.canvases[layer];
    const channel = this.channelAt(layer, place);
    const box = canvas.getBoundingClientRect();
    const x = event ? event.clientX : box.left + ((place % canvas.width) + 0.5) * (box.width / canvas.width);
    this.tip.show(x, box, `Channel ${channel}`, this.page.numbersOf(layer, channel));
  }
}

/** Channels by value, from the least to the greatest, those without a number last. */
function sortChannels(values) {
  const place = (x) => (Number.isNaN(x) ? Infinity : x);
  return Uint32Array.from(values.keys()).sort((a, b) => place(values[a]) - place(values[b]) || a - b);
}
