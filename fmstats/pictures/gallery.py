"""Hold and draw the top images: each picture, and beside it the channel's map over it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, overload

from torch import Tensor

from fmstats.errors import FmstatsError
from fmstats.output.tables import format_number
from fmstats.pictures.canvas import (
    BAR_WIDTH,
    GAP,
    INK,
    MARGIN,
    PAD,
    SMALL,
    Ruler,
    Sheet,
    bare,
    draw_map,
    find_colours,
    require_matplotlib,
    shorten,
    widen,
)
from fmstats.pictures.figure_header import Head
from fmstats.pictures.inputs import Array, pictures_of
from fmstats.pictures.maps import FeatureMaps
from fmstats.pictures.overlays import draw_overlay

if TYPE_CHECKING:
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

_SIDE = 1.25  # inches, of a picture
_BETWEEN = 0.04  # inches, from a picture to its map


By = Literal["max", "mean"]


@dataclass(frozen=True)
class TopImage:
    """Holds one image and the map that a channel gave for it.

    Attributes:
        index: its number among all samples of the data, from 0.
        score: the channel's greatest value, or its mean, over all positions.
        image: the sample as the data gave it, a copy on the host.
        map: the channel, (H, W), float32 or float64.

    Examples:
        >>> import fmstats, torch
        >>> model = torch.nn.Sequential(torch.nn.Identity())
        >>> best = fmstats.top_images(model, torch.eye(2).reshape(1, 1, 2, 2), "0", channel=0)
        >>> best[0].map.tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """

    index: int
    score: float
    image: Tensor
    map: Array


@dataclass(frozen=True)
class TopImages(Sequence[TopImage]):
    """Holds the images that excite a channel most, the highest score first.

    Attributes:
        layer: the layer's name.
        type: the layer's class name.
        channel: its number.
        by: "max" or "mean", what scores are.
        samples: how many images were seen.
        images: at most k of them; fewer where the data has fewer whose score is a number.

    Examples:
        >>> import fmstats, torch
        >>> model = torch.nn.Sequential(torch.nn.Identity())
        >>> best = fmstats.top_images(model, torch.ones(5, 1, 2, 2), "0", channel=0, k=3)
        >>> len(best), best.samples, best.by
        (3, 5, 'max')
    """

    layer: str
    type: str
    channel: int
    by: By
    samples: int
    images: tuple[TopImage, ...]

    @overload
    def __getitem__(self, place: int) -> TopImage: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[TopImage]: ...
    def __getitem__(self, place: int | slice) -> TopImage | Sequence[TopImage]:
        return self.images[place]

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[TopImage]:
        return iter(self.images)

    def figure(self, *, cmap: str | Colormap = "viridis") -> Figure:
        """Draw each image beside the channel's map over it, all maps in the same colours.

        Inputs that are no pictures are left out, and their maps drawn alone.

        Args:
            cmap: a colour map of matplotlib, or its name.

        Raises:
            FmstatsError: there is no image, no such colour map, or matplotlib is missing.

        Examples:
            >>> import fmstats, torch
            >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3))
            >>> best = fmstats.top_images(model, torch.rand(5, 3, 8, 8), "0", channel=0, k=2)
            >>> best.figure().savefig("top.png")  # doctest: +SKIP
        """
        return _draw(self, cmap)


def _draw(found: TopImages, cmap: str | Colormap) -> Figure:
    """Draw the images of `found`, the best first.

    Raises:
        FmstatsError: there is none, no such colour map, or matplotlib is missing.
    """
    require_matplotlib("top_images().figure()")
    colours = find_colours(cmap)
    if not found.images:
        raise FmstatsError(
            f"none of the {found.samples} samples has a score that is a number: nothing to draw"
        )
    pictures = pictures_of([top.image for top in found.images])
    limits = widen(_limits(found))
    ruler = Ruler()
    titles = [f"image {top.index}: {format_number(top.score)}" for top in found.images]
    title_width, title_height = ruler.widest(titles, SMALL)
    pair_width = _SIDE if pictures is None else 2 * _SIDE + _BETWEEN
    cell_width = max(pair_width, title_width) + GAP
    cell_height = title_height + PAD + _SIDE + GAP
    # Cells are twice as wide as high, so a column less than a square has.
    columns = max(1, math.ceil(math.sqrt(len(titles))) - (0 if len(titles) <= 9 else 1))
    rows = math.ceil(len(titles) / columns)

    title = f"{shorten(found.layer, 60)} ({found.type}), channel {found.channel}"
    score = {"max": "greatest value", "mean": "mean"}[found.by]
    notes = f"the {len(titles)} of {found.samples} images that excite it most, by its {score}"
    head = Head(ruler, title, [notes])
    grid_width = columns * cell_width - GAP
    body = max(grid_width + GAP + BAR_WIDTH, head.width)
    sheet = Sheet(2 * MARGIN + body, head.top + rows * cell_height - GAP + MARGIN)
    head.draw(sheet)

    for place, (image, title) in enumerate(zip(found.images, titles, strict=True)):
        row, column = divmod(place, columns)
        left, upper = MARGIN + column * cell_width, head.top + row * cell_height
        sheet.write(left, upper, title, fontsize=SMALL, color=INK)
        upper += title_height + PAD
        if pictures is None:
            drawn = draw_map(sheet.place(left, upper, _SIDE, _SIDE), image.map, limits, colours)
            continue
        axes = sheet.place(left, upper, _SIDE, _SIDE)
        axes.imshow(pictures[place], aspect="auto")
        bare(axes)
        axes = sheet.place(left + _SIDE + _BETWEEN, upper, _SIDE, _SIDE)
        drawn = draw_overlay(axes, pictures[place], image.map, limits, colours)
    height = min(rows * cell_height - GAP - title_height - PAD, 3.0)
    sheet.colour_bar(drawn, MARGIN + grid_width + GAP, head.top + title_height + PAD, height)
    return sheet.figure


def _limits(found: TopImages) -> tuple[float, float] | None:
    each = [FeatureMaps(found.layer, found.type, top.map[None]).limits([0]) for top in found.images]
    known = [limits for limits in each if limits is not None]
    return (min(low for low, _ in known), max(high for _, high in known)) if known else None
