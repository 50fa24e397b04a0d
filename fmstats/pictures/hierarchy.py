"""Draw a row per stage of a network, from edges to semantics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from fmstats.errors import FmstatsError, check_whole
from fmstats.models.selection import ROOT, is_leaf
from fmstats.models.wrappers import named_modules
from fmstats.pictures.canvas import (
    GAP,
    INK,
    MARGIN,
    PAD,
    SMALL,
    TEXT,
    Ruler,
    Sheet,
    draw_map,
    find_colours,
    fit_box,
    require_matplotlib,
    shorten,
    widen,
)
from fmstats.pictures.capture import capture, find_layer, look_at, run_image, watch
from fmstats.pictures.figure_header import Head
from fmstats.pictures.grid import title_of
from fmstats.pictures.inputs import Array, OneImage, Transform, read_image
from fmstats.pictures.maps import FeatureMaps, arrange, to_host

if TYPE_CHECKING:
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

_SIDE = 1.0  # inches, of a square map


def visualize_hierarchy(
    model: nn.Module,
    image: object,
    layers: Sequence[str] | None = None,
    *,
    channels: int = 6,
    cmap: str | Colormap = "viridis",
    transform: Transform | None = None,
) -> Figure:
    """Draw a row per stage of a network: resolution falls, channels grow.

    A row has the channels that vary most over the image, each in colours from its least to its
    greatest value, as layers differ too much for one scale. Marks and titles are those of
    `visualize`. Maps are drawn in the same size whatever their resolution.

    Args:
        model: any module; the image goes to its device and dtype.
        image: as in `visualize`.
        layers: names of modules, a row each. None: of each resolution the leaf module that ran
            last, by one forward pass, as long as resolution falls; so a decoder has no rows, and
            layers whose maps are 1 x 1 have none.
        channels: so many maps a row at most.
        cmap: a colour map of matplotlib.
        transform: as in `visualize`.

    Returns:
        The figure, not shown.

    Raises:
        FmstatsError: as `visualize`, or no layer has a map larger than 1 x 1.

    Examples:
        >>> import fmstats, torch
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.MaxPool2d(2))
        >>> figure = fmstats.visualize_hierarchy(model, torch.rand(3, 16, 16), channels=2)
        >>> figure.savefig("hierarchy.png")  # doctest: +SKIP
    """
    require_matplotlib("visualize_hierarchy()")
    check_whole("channels", channels)
    colours = find_colours(cmap)
    _, network = find_layer(model, ROOT)
    one = read_image(image, transform)
    if layers is None:
        stages = find_stages(model, one)
    else:
        names = [layers] if isinstance(layers, str) else list(layers)
        if not names:
            raise FmstatsError("layers=[]: name at least one layer, or give None")
        names = [find_layer(model, name)[0] for name in names]
        found = capture(model, one, names)
        stages = [found[name] for name in names]
    return _draw_rows(stages, channels, colours, one.picture, type(network).__name__)


def find_stages(model: nn.Module, image: OneImage) -> list[FeatureMaps]:
    """Return the maps of the last leaf module at each resolution, while resolution falls.

    One forward pass, with a copy of one output for each resolution at most.

    Raises:
        FmstatsError: no leaf module has maps larger than 1 x 1.
    """
    named = named_modules(model).items()
    leaves = {name or ROOT: module for name, module in named if is_leaf(module)}
    stages: dict[tuple[int, int], FeatureMaps] = {}

    def keep(name: str, x: Tensor, dim: int) -> None:
        arranged = arrange(x, dim)
        height, width = arranged.maps.shape[1:]
        smallest = min((h * w for h, w in stages), default=height * width)
        # Pooled vectors come in the midst of some networks (squeeze and excitation), windows of
        # attention are many samples of one image: neither is a stage.
        if height * width == 1 or height * width > smallest or not arranged.whole:
            return
        kind = type(leaves[name]).__name__
        stages[height, width] = FeatureMaps(name, kind, to_host(arranged.maps), arranged.note)

    with look_at(model) as copies, watch(copies.model, leaves, keep):
        run_image(copies, image)
    if not stages:
        raise FmstatsError(
            f"none of the {len(leaves)} leaf modules of {type(model).__name__} has maps larger "
            "than 1 x 1: choose layers="
        )
    return list(stages.values())


def label_of(maps: FeatureMaps) -> str:
    """Return a row's layer, its type, and channels x height x width."""
    note = f"\n{shorten(maps.note, 34)}" if maps.note else ""
    return f"{maps.type}\n{maps.channels}x{maps.size}{note}"


def _draw_rows(
    stages: list[FeatureMaps],
    channels: int,
    colours: Colormap,
    picture: Array | None,
    network: str,
) -> Figure:
    ruler = Ruler()
    shown = [stage.ranked("variance")[:channels] for stage in stages]
    titles = [[title_of(s, c) for c in row] for s, row in zip(stages, shown, strict=True)]
    title_width, title_height = ruler.widest([t for row in titles for t in row], SMALL)
    boxes = [fit_box(stage.height, stage.width, _SIDE) for stage in stages]
    cell_width = max(title_width, *(width for width, _ in boxes)) + GAP
    names = [shorten(stage.layer, 30) for stage in stages]
    labels = [label_of(stage) for stage in stages]
    name_width, name_height = ruler.widest(names, TEXT, "bold")
    label_width, label_height = ruler.widest(labels, TEXT)
    label_width = max(name_width, label_width) + 1.5 * GAP
    label_height += name_height + PAD

    notes = "the channels that vary most, each in colours from its least to its greatest value"
    head = Head(ruler, f"{network}: {len(stages)} stages", [notes], picture)
    rows = label_width + max(map(len, shown)) * cell_width - GAP
    heights = [title_height + PAD + height + GAP for _, height in boxes]
    width = 2 * MARGIN + max(rows, head.width)
    sheet = Sheet(width, head.top + sum(heights) - GAP + MARGIN)
    head.draw(sheet)
    top = head.top

    for row, stage in enumerate(stages):
        width, height = boxes[row]
        maps_top = top + title_height + PAD
        # Beside a strip, a label of several lines begins at the height of the titles.
        label_top = min(maps_top, top + heights[row] - GAP - label_height)
        sheet.write(MARGIN, label_top, names[row], color=INK, fontweight="bold")
        sheet.write(MARGIN, label_top + name_height + PAD, labels[row])
        for place, channel in enumerate(shown[row]):
            left = MARGIN + label_width + place * cell_width + (cell_width - GAP - width) / 2
            axes = sheet.place(left, maps_top, width, height)
            limits = widen(stage.limits([channel]))
            flawed = bool(stage.mark(channel))
            draw_map(axes, stage.values[channel], limits, colours, titles[row][place], flawed)
        top += heights[row]
    return sheet.figure
