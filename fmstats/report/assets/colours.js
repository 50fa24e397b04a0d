// Colour ramps that readers of every kind of colour vision can follow, also in grey.

// cividis (Nunez, Anderton and Renslow 2018): from little to much.
const UPWARD = "00224e 013271 2f426d 48526c 5e636f 727374 878478 9d9576 b6a96f cebc63 e7d150 fee838";
// PuOr (ColorBrewer): from one sign to the other, 0 in the middle.
const BOTH_WAYS = "2d004b 532687 8073ac b1aad1 d8daeb f7f7f6 fee0b6 fcb761 e08214 b25706 7f3b08";

// The same on a dark page, where 0 is dark.
const BOTH_WAYS_DARK = "cdbcf7 9d89e2 6e5eb8 463e7c 2c2e4b 20242b 4a3418 7a4f14 b07019 e39a3a ffce8a";

const STEPS = 256;

/** A colour such as "00224e" as a word of a canvas's pixels. */
function wordOf(red, green, blue) {
  return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}

/** A colour as the style sheet has it, which changes with the theme. */
function css(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function parseColour(text) {
  return [0, 2, 4].map((at) => parseInt(text.slice(at, at + 2), 16));
}

function makeRamp(text) {
  const stops = text.split(" ").map(parseColour);
  return Uint32Array.from({ length: STEPS }, (_, step) => {
    const place = (step / (STEPS - 1)) * (stops.length - 1);
    const from = Math.min(Math.floor(place), stops.length - 2);
    const mix = (channel) => Math.round(stops[from][channel] + (place - from) * (stops[from + 1][channel] - stops[from][channel]));
    return wordOf(mix(0), mix(1), mix(2));
  });
}

const RAMPS = { upward: makeRamp(UPWARD), light: makeRamp(BOTH_WAYS), dark: makeRamp(BOTH_WAYS_DARK) };

function isSigned(kind) {
  return kind === "value" || kind === "change";
}

/**
 * The numbers at the ends of the ramp. The one channel in fifty that is farthest out gets the colour
 * of the end, so that it does not take all colours for itself.
 */
function rangeOf(kind, values) {
  if (kind === "share") return [0, 1];
  const most = quantile(isSigned(kind) ? values.map(Math.abs) : values, 0.98);
  return [isSigned(kind) ? -most : 0, most];
}

/** A function from a number to its pixel, on a page that is "light" or "dark". */
function colourOf(kind, [low, high], theme) {
  const ramp = isSigned(kind) ? RAMPS[theme] : RAMPS.upward;
  const none = wordOf(...parseColour(css("--nothing").slice(1)));
  const middle = isSigned(kind) ? (STEPS - 1) / 2 : 0;
  const scale = high > low ? (STEPS - 1) / (high - low) : 0;
  return (x) => {
    if (Number.isNaN(x)) return none;
    const step = scale ? (x - low) * scale : middle;
    return ramp[Math.round(Math.min(Math.max(step, 0), STEPS - 1))];
  };
}
