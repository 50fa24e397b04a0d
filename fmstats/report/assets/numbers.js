"use strict";
// Numbers as text, and the statistics of the channels, unpacked.

/** Four significant digits, short; a dash for none. */
function formatNumber(x) {
  if (x === null || Number.isNaN(x)) return "-";
  if (!Number.isFinite(x)) return x > 0 ? "inf" : "-inf";
  const size = Math.abs(x);
  if (size > 0 && (size < 1e-4 || size >= 9999.5)) {
    return x.toExponential(3).replace(/\.?0+e/, "e");
  }
  return String(Number(x.toPrecision(4)));
}

/** A fraction as a percentage; a dash for none. */
function formatShare(x) {
  return x === null || Number.isNaN(x) ? "-" : `${(100 * x).toFixed(1)}%`;
}

function formatOf(kind) {
  return kind === "share" ? formatShare : formatNumber;
}

/** An array of fmstats/report/packing.py, where the format is described. */
async function unpack(text) {
  const characters = atob(text);
  const packed = new Uint8Array(characters.length);
  for (let i = 0; i < packed.length; i++) packed[i] = characters.charCodeAt(i);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const planes = new Uint8Array(await new Response(stream).arrayBuffer());
  const count = planes.length / 3;
  const words = new Uint32Array(count);
  for (let i = 0; i < count; i++) {
    words[i] = (planes[i] << 24) | (planes[count + i] << 16) | (planes[2 * count + i] << 8);
  }
  return new Float32Array(words.buffer);
}

/** Every statistic by key: { key, label, kind, values }, the values of all channels in a row. */
async function unpackStatistics() {
  const scripts = [...document.querySelectorAll("script.packed")];
  const arrays = await Promise.all(scripts.map((script) => unpack(script.textContent)));
  const statistics = new Map();
  scripts.forEach((script, i) => {
    const { key, label, kind } = script.dataset;
    statistics.set(key, { key, label, kind, values: arrays[i] });
    if (key === "max") {
      const low = statistics.get("min").values;
      const values = arrays[i].map((high, channel) => Math.max(Math.abs(low[channel]), Math.abs(high)));
      statistics.set("abs_max", { key: "abs_max", label: "max |x|", kind: "size", values });
    }
  });
  return statistics;
}

/** A number that ranks channels: the larger, the more there is to see; NaN for none. */
function rankOf(kind, x) {
  return isSigned(kind) ? Math.abs(x) : x;
}

/** The value below which a share of the finite numbers lies; 0 of none. */
function quantile(values, share) {
  const known = values.filter(Number.isFinite).sort();
  return known.length ? known[Math.round(share * (known.length - 1))] : 0;
}
