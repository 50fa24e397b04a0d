// One layer in a panel: its findings, the mean of every channel, and the channels at the top.

const TOP = 20;

class Details {
  /** page: what main.js knows. */
  constructor(page) {
    this.page = page;
    this.dialog = document.getElementById("details");
    this.layer = null;
    this.plot = null;
    const at = (name) => document.getElementById(`details-${name}`);
    this.parts = { name: at("name"), kind: at("kind"), known: at("known"), findings: at("findings"), plot: at("plot"), top: at("top") };
    this.before = at("before");
    this.after = at("after");
    this.before.addEventListener("click", () => page.open(this.layer - 1));
    this.after.addEventListener("click", () => page.open(this.layer + 1));
    at("close").addEventListener("click", () => this.dialog.close());
    // A click beside the panel is one on its backdrop, which belongs to the dialog itself.
    this.dialog.addEventListener("click", (event) => {
      const inside = event.clientX >= this.dialog.getBoundingClientRect().left;
      if (event.target === this.dialog && !inside) this.dialog.close();
    });
  }

  show(layer) {
    const { layers } = this.page;
    this.layer = layer;
    this.parts.name.textContent = layers.name[layer];
    this.parts.kind.textContent = `${layers.type[layer]}, layer ${layer} of ${layers.name.length}`;
    this.parts.known.textContent = `${layers.channels[layer].toLocaleString("en")} channels; ${layers.known[layer]}`;
    this.before.disabled = layer === 0;
    this.after.disabled = layer === layers.name.length - 1;
    this.parts.findings.replaceChildren(
      ...this.page.findings.filter(([of]) => of === layer).map(([, ...finding]) => makeFinding(...finding)),
    );
    if (!this.dialog.open) this.dialog.showModal();
    this.dialog.scrollTop = 0;
    this.drawPlot();
    this.fillTable();
  }

  drawPlot() {
    if (this.plot) forget(this.plot);
    const { page, layer } = this;
    const plain = (x) => (Number.isFinite(x) ? x : null);
    const mean = Array.from(page.slice(page.statistics.get("mean"), layer), plain);
    const std = page.slice(page.statistics.get("std"), layer);
    const edge = (sign) => mean.map((x, i) => (x === null ? null : x + sign * (std[i] || 0)));
    const [above, below] = [edge(1), edge(-1)];
    this.parts.plot.setAttribute("role", "img");
    this.parts.plot.setAttribute("aria-label", `Mean of ${mean.length} channels; the numbers of the first ${TOP} are in the table below`);
    this.plot = mean.some((x) => x !== null)
      ? drawCurves(this.parts.plot, {
          curves: [{ values: mean, number: 1, points: mean.length <= 512 }],
          band: [above, below],
          scale: scaleFor([...above, ...below]),
          format: formatNumber,
          height: 200,
        })
      : null;
  }

  fillTable() {
    const { page, layer } = this;
    const chosen = page.chosen();
    const values = page.slice(chosen, layer);
    const rank = (channel) => {
      const x = rankOf(chosen.kind, values[channel]);
      return Number.isNaN(x) ? -Infinity : x;
    };
    const top = [...values.keys()].sort((a, b) => rank(b) - rank(a) || a - b).slice(0, TOP);
    const signed = isSigned(chosen.kind);
    const some = values.length > TOP ? `First ${TOP} of ${values.length.toLocaleString("en")} channels` : "Channels";
    this.parts.top.textContent = `${some} by ${signed ? "size of " : ""}${chosen.label}`;
    const statistics = [...page.statistics.values()].filter((one) => !page.slice(one, layer).every(Number.isNaN));
    const table = this.dialog.querySelector("table");
    const head = ["channel", ...statistics].map((one) => {
      const cell = document.createElement("th");
      cell.scope = "col";
      if (one === "channel") {
        cell.textContent = one;
        return cell;
      }
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = one.label;
      button.addEventListener("click", () => {
        page.choose(one.key);
        table.tHead.querySelector("[aria-sort] button")?.focus();
      });
      if (one.key === chosen.key) cell.setAttribute("aria-sort", "descending");
      cell.append(button);
      return cell;
    });
    table.tHead.rows[0].replaceChildren(...head);
    table.tBodies[0].replaceChildren(
      ...top.map((channel) => {
        const row = document.createElement("tr");
        const first = document.createElement("th");
        first.scope = "row";
        first.textContent = channel;
        row.append(first);
        for (const one of statistics) {
          row.insertCell().textContent = formatOf(one.kind)(page.slice(one, layer)[channel]);
        }
        return row;
      }),
    );
  }
}

function makeFinding(severity, rule, message) {
  const line = document.createElement("p");
  const icon = document.querySelector(`#icon-${severity}`).ownerSVGElement.cloneNode(false);
  icon.setAttribute("class", `icon ${severity}`);
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#icon-${severity}`);
  icon.append(use);
  const text = document.createElement("span");
  text.textContent = `${severity}: ${rule}. ${message}`;
  line.append(icon, text);
  return line;
}
