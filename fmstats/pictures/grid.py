"""Draw the channels of one layer side by side."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, get_args

from torch import nn

from fmstats.errors import FmstatsError, check_whole
from fmstats.output.tables import format_number
from fmstats.pictures.canvas import (
    BAR_WIDTH,
    GAP,
    MARGIN,
    PAD,
    SMALL,
    Ruler,
    Sheet,
    draw_map,
    find_colours,
    fit_box,
    require_matplotlib,
    shorten,
    widen,
)
from fmstats.pictures.capture import capture, find_layer
from fmstats.pictures.figure_header import Head
from fmstats.pictures.inputs import Array, Transform, read_image
from fmstats.pictures.maps import FeatureMaps, Order, Scale

if TYPE_CHECKING:
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

_SIDE = 1.15  # inches, of a square map


def visualize(
    model: nn.Module,
    image: object,
    layer: str,
    max_channels: int = 16,
    *,
    order: Order = "index",
    scale: Scale = "shared",
    cmap: str | Colormap = "viridis",
    transform: Transform | None = None,
    channel_dim: int | str = "auto",
) -> Figure:
    """Draw the feature maps of a layer for one image, a channel each, on a grid.

    Each title has the channel's number and its least and greatest finite value; `dead` marks one
    that is zero in more than 99 % of its map, `NaN` and `Inf` what is not finite (drawn in pink).
    The model runs once, in evaluation mode and without gradients, and comes back as it was.

    Args:
        model: any module; the image goes to its device and dtype.
        image: a path, a PIL image or a uint8 array (H, W, 3), which go through `transform`; or a
            float array or tensor (1, C, H, W) or (C, H, W), which goes in as it is. Another input
            of one sample: a tuple `(x,)`, or a dict of arguments.
        layer: a module's name as a profile has it: as in `model.named_modules()`, without the
            parts that compiling, DDP, FSDP and checkpointing put in.
        max_channels: draw so many channels at most, the first ones in `order`.
        order: "index", or the greatest "variance", "mean" or "sparsity" (share of zeros) first.
        scale: colours from the least to the greatest value of all channels shown ("shared", with a
            colour bar) or of each "channel".
        cmap: a colour map of matplotlib.
        transform: how pictures become input: an `ImageTransform` of `fmstats.sources.images`, or a
            function of a PIL image giving a float tensor (C, H, W). None: shorter side 256, centre
            crop 224, ImageNet's mean and standard deviation.
        channel_dim: the dim of the layer's output that holds the channels; "auto": by its type.

    Returns:
        The figure, not shown: `figure.savefig("maps.png")`.

    Raises:
        FmstatsError: an unknown layer or option, a layer that does not run or has no maps, an
            image that cannot be read or that the model refuses, or matplotlib is missing.

    Examples:
        >>> import fmstats, torch
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3))
        >>> figure = fmstats.visualize(model, torch.rand(3, 16, 16), "0", max_channels=2)
        >>> figure.savefig("maps.png")  # doctest: +SKIP
    """
    require_matplotlib("visualize()")
    check_whole("max_channels", max_channels)
    if order not in get_args(Order):
        raise FmstatsError(f"order={order!r}: choose from {', '.join(get_args(Order))}")
    if scale not in get_args(Scale):
        raise FmstatsError(f"scale={scale!r}: choose from {', '.join(get_args(Scale))}")
    colours = find_colours(cmap)
    name, _ = find_layer(model, layer)
    one = read_image(image, transform)
    maps = capture(model, one, [name], channel_dim)[name]
    shown = maps.ranked(order)[:max_channels]
    return draw_grid(maps, shown, order, scale, colours, one.picture)


def draw_grid(
    maps: FeatureMaps,
    shown: list[int],
    order: str,
    scale: str,
    colours: Colormap,
    picture: Array | None,
) -> Figure:
    """Draw the channels `shown`, in this order, below a head with the picture they are of."""
    ruler = Ruler()
    titles = [title_of(maps, channel) for channel in shown]
    title_width, title_height = ruler.widest(titles, SMALL)
    box_width, box_height = fit_box(maps.height, maps.width, _SIDE)
    cell_width = max(box_width, title_width) + GAP
    cell_height = title_height + PAD + box_height + GAP
    columns = _choose_columns(len(shown), cell_width, cell_height)
    rows = math.ceil(len(shown) / columns)

    title = f"{shorten(maps.layer, 60)} ({maps.type})\n{maps.channels} channels, {maps.size}"
    head = Head(ruler, title, _describe(maps, len(shown), order, scale), picture)
    bar = BAR_WIDTH if scale == "shared" else 0.0
    grid_width = columns * cell_width - GAP
    body = max(grid_width + bar, head.width)
    sheet = Sheet(2 * MARGIN + body, head.top + rows * cell_height - GAP + MARGIN)
    head.draw(sheet)
    shared = widen(maps.limits(shown))
    for place, (channel, title) in enumerate(zip(shown, titles, strict=True)):
        row, column = divmod(place, columns)
        axes = sheet.place(
            MARGIN + column * cell_width + (cell_width - GAP - box_width) / 2,
            head.top + row * cell_height + title_height + PAD,
            box_width,
            box_height,
        )
        limits = shared if scale == "shared" else widen(maps.limits([channel]))
        flawed = bool(maps.mark(channel))
        drawn = draw_map(axes, maps.values[channel], limits, colours, title, flawed)
    if bar:
        height = min(rows * cell_height - GAP - title_height - PAD, 3.0)
        sheet.colour_bar(drawn, MARGIN + grid_width + GAP, head.top + title_height + PAD, height)
    return sheet.figure


def title_of(maps: FeatureMaps, channel: int) -> str:
    """Return a channel's number, flaw, and least and greatest finite value."""
    mark = maps.mark(channel)
    limits = maps.limits([channel])
    values = "no finite value" if limits is None else " to ".join(map(format_number, limits))
    return f"ch {channel}{' · ' + mark if mark else ''}\n{values}"


def _choose_columns(count: int, width: float, height: float) -> int:
    """Choose a number of columns that makes the grid squarish and fills its last row."""

    def cost(columns: int) -> float:
        rows = math.ceil(count / columns)
        empty = (rows * columns - count) / columns
        return abs(math.log(columns * width / (rows * height))) + empty

    return min(range(1, count + 1), key=cost)


def _describe(maps: FeatureMaps, shown: int, order: str, scale: str) -> list[str]:
    which = "all" if shown == maps.channels else f"{shown} of them"
    by = {
        "index": "in order of number",
        "variance": "largest variance first",
        "mean": "largest mean first",
        "sparsity": "most zeros first",
    }[order]
    lines = [f"{which} shown, {by}"]
    if scale == "channel":
        lines.append("colours: from each channel's least to its greatest value")
    return [*lines, maps.note]
