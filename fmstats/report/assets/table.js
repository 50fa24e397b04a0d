// The table of layers: sorted by its heads, searched by name and type.

const UPWARDS = new Set(["number", "name"]); // the others show the most first
const GRAVITY = { error: 3, warning: 2, info: 1 };

class Table {
  /** rows: by layer. page: what main.js knows. */
  constructor(table, rows, page) {
    this.body = table.tBodies[0];
    this.rows = rows;
    this.page = page;
    this.heads = [...table.tHead.rows[0].cells];
    this.key = "number";
    this.upwards = true;
    this.select = document.getElementById("sort");
    for (const head of this.heads) {
      this.select.add(new Option(head.textContent, head.dataset.key));
      head.firstElementChild.addEventListener("click", () => {
        const again = head.dataset.key === this.key;
        this.sort(head.dataset.key, again ? !this.upwards : UPWARDS.has(head.dataset.key));
      });
    }
    this.select.addEventListener("change", () => this.sort(this.select.value, UPWARDS.has(this.select.value)));
    this.texts = rows.map((_, i) => `${page.layers.name[i]} ${page.layers.type[i]}`.toLowerCase());
    this.search = document.getElementById("search");
    this.grave = document.getElementById("grave");
    this.search.addEventListener("input", () => this.filter());
    this.grave.addEventListener("change", () => this.filter());
    if (page.layers.blocks.length) {
      this.blocks = new Blocks(rows, page, () => this.filter());
      const unfold = document.getElementById("unfold");
      unfold.addEventListener("change", () => {
        this.blocks.openAll(unfold.checked);
        this.filter();
      });
    }
    this.filter();
  }

  /** What a layer is sorted by; null last. */
  valueOf(layer) {
    const { layers, statistics } = this.page;
    if (this.key === "number") return layer;
    if (this.key === "findings") {
      const worst = layers.worst[layer];
      return worst ? GRAVITY[worst] * 1e6 + layers.findings[layer] : null;
    }
    if (this.key !== "statistic") return layers[this.key][layer];
    const statistic = statistics.get(document.getElementById("statistic").value);
    let most = null;
    for (const x of this.page.slice(statistic, layer)) {
      const rank = rankOf(statistic.kind, x);
      if (rank > most || (most === null && !Number.isNaN(rank))) most = rank;
    }
    return most;
  }

  sort(key, upwards) {
    this.key = key;
    this.upwards = upwards;
    const values = this.rows.map((_, layer) => this.valueOf(layer));
    const sign = upwards ? 1 : -1;
    const order = [...values.keys()].sort((a, b) => {
      if (values[a] === null || values[b] === null) return (values[a] === null) - (values[b] === null) || a - b;
      const named = typeof values[a] === "string";
      const difference = named ? values[a].localeCompare(values[b], "en", { numeric: true }) : values[a] - values[b];
      return sign * difference || a - b;
    });
    this.body.append(...order.map((layer) => this.rows[layer]));
    for (const head of this.heads) {
      if (head.dataset.key === key) head.setAttribute("aria-sort", upwards ? "ascending" : "descending");
      else head.removeAttribute("aria-sort");
    }
    this.select.value = key;
    this.filter();
  }

  filter() {
    const words = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    this.rows.forEach((row, layer) => {
      const grave = GRAVITY[this.page.layers.worst[layer]] > 1;
      row.hidden = !words.every((word) => this.texts[layer].includes(word)) || (this.grave.checked && !grave);
      shown += !row.hidden;
    });
    // Blocks are of layers in the order of execution, all of them.
    if (this.blocks) this.blocks.show(this.key === "number" && this.upwards && !words.length && !this.grave.checked);
    document.getElementById("shown").textContent = `${shown.toLocaleString("en")} of ${this.rows.length.toLocaleString("en")} layers`;
  }

  /** Brings a layer into view, also one that the search leaves out. */
  reveal(layer) {
    const row = this.rows[layer];
    if (row.hidden) {
      this.search.value = "";
      this.grave.checked = false;
      if (this.blocks) this.blocks.openAt(layer);
      this.filter();
    }
    this.rows.forEach((other) => other.classList.toggle("target", other === row));
    row.scrollIntoView({ block: "center", behavior: "instant" });
  }
}
