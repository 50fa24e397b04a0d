// Blocks of a large model: a row for each, behind which its layers are folded.

const WORST = ["error", "warning", "info"];

class Blocks {
  /** rows: by layer. page: what main.js knows. changed: called when a block opens or closes. */
  constructor(rows, page, changed) {
    this.rows = rows;
    this.open = new Set();
    let first = 0;
    this.blocks = page.layers.blocks.map(([name, count], index) => {
      const block = { name, layers: Array.from({ length: count }, (_, i) => first + i) };
      first += count;
      block.row = this.makeRow(block, index, page, changed);
      return block;
    });
  }

  makeRow({ name, layers }, index, { layers: known }, changed) {
    const of = (key) => layers.map((layer) => known[key][layer]);
    const most = (key) => of(key).reduce((a, b) => (b === null || (a !== null && a >= b) ? a : b), null);
    const sum = (key) => of(key).reduce((a, b) => a + b, 0);
    const worst = WORST.find((severity) => of("worst").includes(severity));
    const row = document.createElement("tr");
    row.className = "block";
    row.setAttribute("role", "row");
    const add = (label, text, className = "") => {
      const cell = document.createElement("td");
      cell.setAttribute("role", "cell");
      if (label && text !== "") cell.dataset.label = label;
      cell.className = className;
      cell.textContent = text;
      row.append(cell);
      return cell;
    };
    add("", "");
    const head = document.createElement("th");
    head.setAttribute("role", "rowheader");
    head.scope = "row";
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-expanded", "false");
    const title = document.createElement("bdi");
    title.textContent = name;
    const kind = document.createElement("span");
    kind.className = "kind";
    kind.textContent = layers.length === 1 ? "1 layer" : `${layers.length.toLocaleString("en")} layers`;
    button.append(title, kind);
    button.addEventListener("click", () => {
      if (!this.open.delete(index)) this.open.add(index);
      changed();
    });
    head.append(button);
    row.append(head);
    add("channels", sum("channels").toLocaleString("en"));
    add("mean", "");
    add("std", "");
    add("max |x|", formatNumber(most("abs_max")));
    add("sparsity up to", most("sparsity") === null ? "" : formatShare(most("sparsity")));
    add("dead", String(sum("dead")));
    add("NaN+Inf", sum("nonfinite").toLocaleString("en"), sum("nonfinite") ? "bad" : "");
    if (known.score) add("drift up to", formatNumber(most("score")));
    const findings = add("findings", worst ? ` ${sum("findings")}` : "");
    if (worst) findings.prepend(makeIcon(worst));
    add("", "", "strip");
    return row;
  }

  /** Shows the blocks, and of each one that is closed no layer; or no blocks at all. */
  show(folded) {
    this.blocks.forEach(({ row, layers }, index) => {
      if (!folded) {
        row.remove();
        return;
      }
      const open = this.open.has(index);
      this.rows[layers[0]].before(row);
      row.querySelector("button").setAttribute("aria-expanded", open);
      for (const layer of layers) this.rows[layer].hidden = !open;
    });
  }

  openAt(layer) {
    this.open.add(this.blocks.findIndex(({ layers }) => layers.includes(layer)));
  }

  openAll(open) {
    this.open = new Set(open ? this.blocks.keys() : []);
  }
}
