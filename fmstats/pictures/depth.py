"""Draw how statistics change along the depth of a network."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from fmstats.errors import FmstatsError
from fmstats.output.tables import format_number, make_printable
from fmstats.pictures.canvas import (
    BAR_WIDTH,
    FAINT,
    GAP,
    INK,
    MARGIN,
    SMALL,
    TEXT,
    Array,
    Ruler,
    Sheet,
    find_colours,
    require_matplotlib,
    shorten,
)
from fmstats.pictures.figure_header import Head
from fmstats.profiles.measured import pool_histograms
from fmstats.profiles.metadata import read_count, read_text
from fmstats.profiles.profile import Profile, check_profile
from fmstats.statistic.channel_stats import pool_channels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

# Of the Okabe-Ito palette, which colour-blind readers can distinguish; markers differ as well.
_BLUE, _VERMILION, _GREEN = "#0072b2", "#d55e00", "#009e73"
_LEFT, _RIGHT = 0.85, BAR_WIDTH  # inches beside the panels, for numbers and for keys and the bar
_MEANS, _QUANTILES, _SHARES, _HEAT, _BETWEEN = 1.5, 1.5, 1.5, 2.4, 0.22  # inches of height
_BANDS = (0.01, 0.25, 0.5, 0.75, 0.99)  # shares of elements: the median, and two bands about it
_NAME_LENGTH = 30  # characters of a layer's name at most
_ROWS = 256  # of the heat map, at most
_MOST_SPREAD = 3.0  # standard deviations at the ends of the heat map's colours


def plot_profile(profile: Profile) -> Figure:
    """Draw a profile along the depth of the network, layers in the order of execution.

    Panels over the same layers:

    - the mean of all elements, in a band of one standard deviation of the channels' means to either
      side (on a symmetric logarithmic axis where layers differ by more than a factor of 1000);
    - where histograms were measured, the median of all elements, in bands from 25 % to 75 % and
      from 1 % to 99 % of them, on such an axis;
    - the share of zeros, the share of dead channels, and the share of saturated elements for the
      layers that have saturation bounds;
    - a heat map: the mean of each channel less that of its layer, in standard deviations of the
      layer's elements. A column is a layer, its channels ranked by their mean, from the least at
      the bottom to the greatest at the top, and stretched to the height of the panel, whatever
      their number. Colours end at 3 standard deviations. Grey: nothing finite was seen, or nothing
      varies.

    Args:
        profile: of `tracker.stats()` or `fmstats.profile`.

    Returns:
        The figure, not shown.

    Raises:
        FmstatsError: the profile has no layer, or matplotlib is missing.

    Examples:
        >>> import fmstats, torch
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU())
        >>> profile = fmstats.profile(model, torch.rand(2, 3, 8, 8), progress=False)
        >>> figure = fmstats.plot_profile(profile)
        >>> figure.savefig("profile.png")  # doctest: +SKIP
    """
    require_matplotlib("plot_profile()")
    check_profile(profile, "plot_profile()")
    if not len(profile):
        raise FmstatsError("the profile has no layer: nothing was measured, see coverage()")
    rows = profile.layers()
    ruler = Ruler()
    names = [shorten(str(row["layer"]), _NAME_LENGTH) for row in rows]
    name_length, name_height = ruler.widest(names, SMALL - 1)
    channels = sum(row["channels"] for row in rows)
    model = make_printable(read_text(profile.metadata, "model", "profile"))
    samples = read_count(profile.metadata, "samples")
    notes = f"{len(rows)} layers, {channels} channels" + (f", {samples} samples" if samples else "")
    head = Head(ruler, f"{model}: from the first layer to the last", [notes])
    panels = min(max(len(rows) * name_height * 1.15, 5.0), 11.0)
    quantiles = _quantiles(profile)
    measured = 0.0 if quantiles is None else _QUANTILES + _BETWEEN
    sheet = Sheet(
        max(_LEFT + panels + GAP + _RIGHT + MARGIN, 2 * MARGIN + head.width),
        head.top + measured + _MEANS + _SHARES + _HEAT + 2 * _BETWEEN + 0.4 + name_length + MARGIN,
    )
    head.draw(sheet)
    top = head.top
    axes = sheet.place(_LEFT, top, panels, _MEANS)
    _plot_means(axes, rows)
    top += _MEANS + _BETWEEN
    if quantiles is not None:
        _plot_quantiles(sheet.place(_LEFT, top, panels, _QUANTILES), quantiles)
        top += measured
    axes = sheet.place(_LEFT, top, panels, _SHARES)
    _plot_shares(axes, rows)
    top += _SHARES + _BETWEEN
    axes = sheet.place(_LEFT, top, panels, _HEAT)
    image = _plot_heat(axes, profile)
    # No more names than there is room for; the ticks say which layers they are of.
    step = int(np.ceil(len(rows) * name_height * 1.1 / panels))
    places = range(0, len(rows), step)
    axes.set_xticks(places, [names[i] for i in places], rotation=90, fontsize=SMALL - 1)
    sheet.colour_bar(image, _LEFT + panels + GAP, top, _HEAT, "standard deviations of the layer")
    return sheet.figure


def standardise_means(profile: Profile) -> Array:
    """Return the heat map of `plot_profile` as (rows, layers), the least mean in the first row.

    Rows are equal steps through the ranks of a layer's channels, its first and last one included,
    each the nearest channel's. NaN where nothing is known.
    """
    most = max(stats.channels for stats in profile.values())
    count = min(max(most, 1), _ROWS)
    columns = []
    for stats in profile.values():
        whole = stats.pooled()
        means = np.sort(stats.mean)  # NaN last
        if not len(means):
            columns.append(np.full(count, np.nan))
            continue
        with np.errstate(all="ignore"):
            scaled = (means - whole.mean[0]) / whole.std[0]
        scaled[~np.isfinite(scaled)] = np.nan
        columns.append(scaled[np.rint(np.linspace(0, len(means) - 1, count)).astype(int)])
    return np.stack(columns, axis=1)


def _plot_means(axes: Axes, rows: list[dict[str, Any]]) -> None:
    places = np.arange(len(rows))
    mean = np.array([row["mean"] for row in rows])
    spread = np.array([row["mean_spread"] for row in rows])
    axes.axhline(0, color="#cccccc", linewidth=0.8, zorder=0)
    axes.fill_between(
        places, mean - spread, mean + spread, color=_BLUE, alpha=0.25, linewidth=0, step=None
    )
    axes.plot(places, mean, color=_BLUE, linewidth=1.2, marker="o", markersize=2.5)
    _scale(axes, np.abs(mean) + spread)
    _style(axes, len(rows), "mean")
    _key(axes, [("mean of all elements", _BLUE, "o"), ("± std of the\nchannels' means", _BLUE, "")])


def _quantiles(profile: Profile) -> Array | None:
    """Return the shares `_BANDS` of all elements of each layer, (shares, layers); NaN: unknown.

    None where no layer has a histogram.
    """
    layers = list(profile.values())
    if all(stats.measures.bins is None for stats in layers):
        return None
    wholes = map(pool_histograms, layers, pool_channels(layers))
    return np.array(
        [
            [np.nan] * len(_BANDS)
            if whole.measures.bins is None
            else [whole.quantile(share)[0] for share in _BANDS]
            for whole in wholes
        ]
    ).T


def _plot_quantiles(axes: Axes, quantiles: Array) -> None:
    least, low, middle, high, most = quantiles
    places = np.arange(len(middle))
    axes.axhline(0, color="#cccccc", linewidth=0.8, zorder=0)
    for below, above in ((least, most), (low, high)):
        axes.fill_between(places, below, above, color=_GREEN, alpha=0.25, linewidth=0)
    axes.plot(places, middle, color=_GREEN, linewidth=1.2, marker="o", markersize=2.5)
    _scale(axes, np.abs(quantiles[[0, -1]]).max(0))
    _style(axes, len(middle), "elements")
    _key(axes, [("median", _GREEN, "o"), ("25 % to 75 %, and\n1 % to 99 %", _GREEN, "")])


def _scale(axes: Axes, sizes: Array) -> None:
    """Leave room above and below; take an axis by decades where layers differ by much."""
    sizes = sizes[np.isfinite(sizes) & (sizes > 0)]
    axes.margins(y=0.08)
    if sizes.size and sizes.max() > 1000 * np.median(sizes):
        _scale_by_decades(axes, float(np.median(sizes)), float(sizes.max()))


def _scale_by_decades(axes: Axes, middle: float, largest: float) -> None:
    """Set a symmetric logarithmic axis, linear up to `middle`, with five spaced numbers."""
    axes.set_yscale("symlog", linthresh=middle)
    low, high = axes.get_ylim()
    top = math.floor(math.log10(largest))
    between = top - (top - math.floor(math.log10(middle))) // 2
    ticks = [-(10.0**top), -(10.0**between), 0.0, 10.0**between, 10.0**top]
    ticks = [tick for tick in ticks if low <= tick <= high]
    axes.set_yticks(ticks, list(map(format_number, ticks)))
    axes.set_yticks([], minor=True)


def _plot_shares(axes: Axes, rows: list[dict[str, Any]]) -> None:
    places = np.arange(len(rows))
    with np.errstate(all="ignore"):
        dead = [100 * row["dead"] / max(row["channels"], 1) for row in rows]
    sparsity = [100 * row["sparsity"] for row in rows]
    bounded = [i for i, row in enumerate(rows) if row["saturated"] is not None]
    saturated = [100 * rows[i]["saturated"] for i in bounded]
    axes.plot(places, sparsity, color=_BLUE, linewidth=1.2, marker="o", markersize=2.5)
    axes.plot(places, dead, color=_VERMILION, linewidth=1.2, marker="x", markersize=3.5)
    keys = [("sparsity", _BLUE, "o"), ("dead channels", _VERMILION, "x")]
    if bounded:
        axes.plot(bounded, saturated, color=_GREEN, linewidth=0, marker="^", markersize=4)
        keys.append(("saturated", _GREEN, "^"))
    axes.set_ylim(-4, 104)
    _style(axes, len(rows), "share, %")
    _key(axes, keys)


def _plot_heat(axes: Axes, profile: Profile) -> AxesImage:
    heat = standardise_means(profile)
    known = np.abs(heat[np.isfinite(heat)])
    most = min(float(known.max()), _MOST_SPREAD) if known.size and known.max() > 0 else 1.0
    image = axes.imshow(
        np.ma.masked_invalid(heat),
        cmap=find_colours("PuOr_r").with_extremes(bad="#bbbbbb"),
        vmin=-most,
        vmax=most,
        aspect="auto",
        origin="lower",
        extent=(-0.5, heat.shape[1] - 0.5, 0, 100),
        interpolation="nearest",
    )
    _style(axes, heat.shape[1], "channels by mean,\n% of the layer's channels")
    return image


def _style(axes: Axes, layers: int, label: str) -> None:
    axes.set_xlim(-0.5, layers - 0.5)
    axes.set_xticks([])
    axes.set_ylabel(label, fontsize=TEXT, color=FAINT)
    axes.tick_params(labelsize=SMALL, length=2, colors=FAINT, labelcolor=INK)
    axes.yaxis.get_offset_text().set_fontsize(SMALL)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#aaaaaa")


def _key(axes: Axes, entries: list[tuple[str, str, str]]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles = [
        Line2D([], [], color=colour, marker=marker, markersize=4, linewidth=1.2)
        if marker
        else Patch(color=colour, alpha=0.25)
        for _, colour, marker in entries
    ]
    axes.legend(
        handles,
        [label for label, _, _ in entries],
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
        frameon=False,
        fontsize=SMALL,
        labelcolor=INK,
        handlelength=1.2,
        handletextpad=0.5,
        borderaxespad=0.3,
        borderpad=0,
    )
