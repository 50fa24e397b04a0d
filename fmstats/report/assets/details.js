// One layer in a panel: its findings, the mean of every channel, and the channels at the top.

const TOP = 20;
const NAMED = 2; // the number of the colour of channels that findings name

class Details {
  /** page: what main.js knows. */
  constructor(page) {
    this.page = page;
    this.dialog = document.getElementById("details");
    this.layer = null;
    this.plot = null;
    const at = (name) => document.getElementById(`details-${name}`);
    this.parts = { name: at("name"), kind: at("kind"), known: at("known"), findings: at("findings"), key: at("key"), plot: at("plot"), top: at("top") };
    this.parts.key.append(makeKey("named by a finding", `curve-${NAMED}`, "dotted"));
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
    this.parts.kind.textContent = `${layers.type[layer]}, layer ${layer + 1} of ${layers.name.length}`;
    this.parts.known.textContent = `${layers.channels[layer].toLocaleString("en")} channels; ${layers.known[layer]}`;
    this.before.disabled = layer === 0;
    this.after.disabled = layer === layers.name.length - 1;
    const findings = this.page.findings.filter(([of]) => of === layer);
    this.parts.findings.replaceChildren(...findings.map(([, ...finding]) => makeFinding(...finding)));
    this.named = nameChannels(findings);
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
    this.parts.key.hidden = !this.named.size;
    this.parts.plot.setAttribute("role", "img");
    this.parts.plot.setAttribute("aria-label", `Mean of ${mean.length} channels; the numbers of ${TOP} at most are in the table below`);
    this.plot = mean.some((x) => x !== null)
      ? drawCurves(this.parts.plot, {
          curves: [
            { values: mean, number: 1, points: mean.length <= 512 },
            { values: mean.map((x, channel) => (this.named.has(channel) ? x : null)), number: NAMED, points: true },
          ],
          band: [above, below],
          scale: scaleFor([...above, ...below]),
          format: formatNumber,
          height: 200,
        })
      : null;
  }

  fillTable() {
    const { page, layer, named } = this;
    const chosen = page.chosen();
    const values = page.slice(chosen, layer);
    const rank = (channel) => {
      const x = rankOf(chosen.kind, values[channel]);
      return Number.isNaN(x) ? -Infinity : x;
    };
    const gravity = (channel) => (named.has(channel) ? GRAVITY[named.get(channel).severity] : 0);
    const compare = (a, b) => gravity(b) - gravity(a) || rank(b) - rank(a) || a - b;
    const top = [...values.keys()].sort(compare).slice(0, TOP);
    const signed = isSigned(chosen.kind);
    const some = values.length > TOP ? `First ${TOP} of ${values.length.toLocaleString("en")} channels` : "Channels";
    this.parts.top.textContent = `${some}${named.size ? ", those that findings name first," : ""} by ${signed ? "size of " : ""}${chosen.label}`;
    const statistics = [...page.statistics.values()].filter((one) => !page.slice(one, layer).every(Number.isNaN));
    const table = this.dialog.querySelector("table");
    const head = ["channel", ...(named.size ? ["finding"] : []), ...statistics].map((one) => {
      const cell = document.createElement("th");
      cell.scope = "col";
      if (typeof one === "string") {
        cell.textContent = one;
        if (one === "finding") cell.className = "rules";
        return cell;
      }
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = one.label;
      button.addEventListener("click", () => {
        page.choose(one.key);
        table.tHead.querySelector("[aria-sort] button")?.focus();
      });
      if (one.key === chosen.key) cell.setAttribute("aria-sort", named.size ? "other" : "descending");
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
        if (named.size) fillRules(row.insertCell(), named.get(channel));
        for (const one of statistics) {
          row.insertCell().textContent = formatOf(one.kind)(page.slice(one, layer)[channel]);
        }
        return row;
      }),
    );
  }
}

/** By channel its rules and their gravest severity, of a layer's findings, which come gravest first. */
function nameChannels(findings) {
  const named = new Map();
  for (const [, severity, rule, , runs] of findings) {
    for (const channel of unpackRuns(runs)) {
      if (!named.has(channel)) named.set(channel, { severity, rules: [] });
      named.get(channel).rules.push(rule);
    }
  }
  return named;
}

/** Numbers that page.py packs: "0 16-19 23". */
function* unpackRuns(text) {
  for (const run of text.split(" ").filter(Boolean)) {
    const [first, last = first] = run.split("-").map(Number);
    for (let number = first; number <= last; number++) yield number;
  }
}

function fillRules(cell, known) {
  cell.className = "rules";
  if (!known) return;
  const word = document.createElement("span");
  word.className = "hidden";
  word.textContent = `${known.severity}: `;
  cell.append(makeIcon(known.severity), word, ` ${known.rules.join(", ")}`);
}

function makeFinding(severity, rule, message) {
  const line = document.createElement("p");
  const text = document.createElement("span");
  text.textContent = `${severity}: ${rule}. ${message}`;
  line.append(makeIcon(severity), text);
  return line;
}

function makeIcon(severity) {
  const icon = document.querySelector(`#icon-${severity}`).ownerSVGElement.cloneNode(false);
  icon.setAttribute("class", `icon ${severity}`);
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#icon-${severity}`);
  icon.append(use);
  return icon;
}
