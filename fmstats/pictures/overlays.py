"""Draw one channel over the picture, to see what it responds to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from fmstats.errors import FmstatsError
from fmstats.pictures.canvas import (
    BAR_WIDTH,
    GAP,
    MARGIN,
    Limits,
    Ruler,
    Sheet,
    bare,
    find_colours,
    require_matplotlib,
    shorten,
    widen,
)
from fmstats.pictures.capture import capture, find_layer
from fmstats.pictures.figure_header import Head
from fmstats.pictures.grid import title_of
from fmstats.pictures.inputs import Array, Transform, read_image

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

_SIDE = 4.0  # inches, the longer side of the picture
_OPAQUE = (
    0.6  # of the colours; the picture below is grey, so that its colours are not taken for them
)


def overlay(
    model: nn.Module,
    image: object,
    layer: str,
    channel: int,
    *,
    cmap: str | Colormap = "viridis",
    transform: Transform | None = None,
    channel_dim: int | str = "auto",
) -> Figure:
    """Draw one channel of a layer, enlarged (bilinear), over the picture in grey.

    The picture is what the model sees, after resizing and cropping. Colours run from the channel's
    least to its greatest finite value; what is not finite is pink.

    Args:
        model: any module; the image goes to its device and dtype.
        image: a picture, as in `visualize`. A tensor is shown as it is if its values are in 0..1,
            without ImageNet's normalisation if that fits, else stretched to 0..1.
        layer: a module's name.
        channel: from 0 up.
        cmap: a colour map of matplotlib.
        transform: as in `visualize`.
        channel_dim: as in `visualize`.

    Returns:
        The figure, not shown.

    Raises:
        FmstatsError: as `visualize`; no such channel; an image that is no picture; maps that are
            strips, which have no place in a picture.

    Examples:
        >>> import fmstats, torch
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3))
        >>> figure = fmstats.overlay(model, torch.rand(3, 16, 16), "0", channel=2)
        >>> figure.savefig("overlay.png")  # doctest: +SKIP
    """
    require_matplotlib("overlay()")
    colours = find_colours(cmap)
    name, _ = find_layer(model, layer)
    one = read_image(image, transform)
    if one.picture is None:
        raise FmstatsError(
            f"overlay() needs a picture below its map, and the input is {one.inputs.describe()}: "
            "visualize() draws the map alone"
        )
    maps = capture(model, one, [name], channel_dim)[name]
    channel = maps.check_channel(channel)
    if maps.height * maps.width > 1 and 1 in (maps.height, maps.width):
        raise FmstatsError(
            f"layer {name!r} has maps of {maps.size}, strips without a place in a picture: "
            "visualize() draws them"
        )
    of_channel = title_of(maps, channel).replace("\n", ": ")
    title = f"{shorten(maps.layer, 60)} ({maps.type})\n{of_channel}"
    notes = [f"{maps.channels}x{maps.size}, enlarged to the picture", maps.note]
    head = Head(Ruler(), title, notes)
    box_width, box_height = _fit_picture(one.picture, _SIDE)
    body = max(box_width + GAP + BAR_WIDTH, head.width)
    sheet = Sheet(2 * MARGIN + body, head.top + box_height + MARGIN)
    head.draw(sheet)
    axes = sheet.place(MARGIN, head.top, box_width, box_height)
    limits = widen(maps.limits([channel]))
    drawn = draw_overlay(axes, one.picture, maps.values[channel], limits, colours)
    sheet.colour_bar(drawn, MARGIN + box_width + GAP, head.top, box_height)
    return sheet.figure


def draw_overlay(
    axes: Axes, picture: Array, plane: Array, limits: Limits, colours: Colormap
) -> AxesImage:
    """Draw a picture (H, W, 3) in grey and a map over it, enlarged to it; returns the map's."""
    grey = picture @ np.array([0.299, 0.587, 0.114], picture.dtype)
    axes.imshow(grey, cmap="gray", vmin=0, vmax=1, aspect="auto")
    large = np.ma.masked_invalid(enlarge(plane, *picture.shape[:2]))
    low, high = limits
    image = axes.imshow(large, cmap=colours, vmin=low, vmax=high, alpha=_OPAQUE, aspect="auto")
    bare(axes)
    return image


def enlarge(plane: Array, height: int, width: int) -> Array:
    """Resize a map bilinearly; non-finite values stay in their own pixels, as NaN."""
    values = torch.from_numpy(plane.astype(np.float64))[None, None]
    good = torch.isfinite(values)
    size = (height, width)
    smooth = F.interpolate(
        torch.where(good, values, 0.0), size=size, mode="bilinear", align_corners=False
    )
    if not good.all():
        # Beside a pixel that is not finite, the mean of its finite neighbours alone.
        weight = F.interpolate(good.double(), size=size, mode="bilinear", align_corners=False)
        inside = F.interpolate(good.double(), size=size, mode="nearest-exact") > 0
        smooth = torch.where(inside, smooth / weight.clamp_min(1e-12), torch.nan)
    return np.asarray(smooth[0, 0].numpy())


def _fit_picture(picture: Array, side: float) -> tuple[float, float]:
    height, width = picture.shape[:2]
    longer = max(height, width)
    return max(side * width / longer, side / 4), max(side * height / longer, side / 4)
