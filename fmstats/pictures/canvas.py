"""Make figures without pyplot, measure texts, and draw maps in one way.

A figure is laid out in inches from the top left corner, from the measured sizes of its texts, so
that none overlaps another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmstats.errors import FmstatsError, list_closest, needs
from fmstats.output.tables import format_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

Array = NDArray[Any]
Limits = tuple[float, float]

INK, FAINT = "#222222", "#666666"
FLAW = "#d55e00"  # vermilion of Okabe-Ito: colour-blind readers distinguish it from viridis
BAD_PIXEL = "#ff3dbe"  # neither viridis, cividis nor a grey map has a pink
HEADLINE, TEXT, SMALL = 11.0, 8.5, 7.5  # points

MARGIN, GAP, PAD = 0.16, 0.16, 0.05  # inches
DPI = 100


def require_matplotlib(what: str) -> None:
    """Refuse at once where matplotlib is missing, before a model runs.

    Raises:
        FmstatsError: it cannot be imported.
    """
    with needs(what, "matplotlib", "'fmstats[viz]'"):
        import matplotlib.figure  # noqa: F401


def find_colours(cmap: str | Colormap) -> Colormap:
    """Return the colour map of that name, with a separate colour for non-finite values.

    Raises:
        FmstatsError: there is none of that name.
    """
    import matplotlib
    from matplotlib.colors import Colormap

    if isinstance(cmap, str):
        if cmap not in matplotlib.colormaps:
            near = list_closest(cmap, matplotlib.colormaps, count=3)
            raise FmstatsError(f"cmap={cmap!r} is no colour map of matplotlib; closest: {near}")
        cmap = matplotlib.colormaps[cmap]
    if not isinstance(cmap, Colormap):
        raise FmstatsError(f"cmap={cmap!r}: give the name of a colour map, or a Colormap")
    return cmap.with_extremes(bad=BAD_PIXEL)


class Sheet:
    """Lays out a figure of `width` x `height` inches, from its top left corner."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self.figure = _new_figure(width, height)

    def place(self, left: float, top: float, width: float, height: float) -> Axes:
        """Add axes."""
        bottom = self.height - top - height
        return self.figure.add_axes(
            (left / self.width, bottom / self.height, width / self.width, height / self.height)
        )

    def headline(self, text: str) -> None:
        """Write the figure's title at the top left."""
        self.figure.suptitle(
            text,
            x=MARGIN / self.width,
            y=1 - MARGIN / self.height,
            ha="left",
            va="top",
            fontsize=HEADLINE,
            fontweight="bold",
            color=INK,
        )

    def write(self, left: float, top: float, text: str, **style: Any) -> None:
        """Write a text whose top left corner is at this place."""
        style = {"fontsize": TEXT, "color": FAINT, "ha": "left", "va": "top", **style}
        self.figure.text(left / self.width, 1 - top / self.height, text, **style)

    def paste(self, picture: Array, left: float, top: float, width: float, height: float) -> None:
        """Show a picture (H, W, 3) without axes, so that it is not mistaken for a map."""
        from matplotlib.image import BboxImage
        from matplotlib.transforms import Bbox, TransformedBbox

        box = Bbox.from_bounds(
            left / self.width,
            1 - (top + height) / self.height,
            width / self.width,
            height / self.height,
        )
        image = BboxImage(TransformedBbox(box, self.figure.transFigure), origin="upper")
        image.set_data(picture)
        self.figure.add_artist(image)

    def colour_bar(
        self, image: AxesImage, left: float, top: float, height: float, label: str = ""
    ) -> None:
        """Draw a colour bar for an image, numbers to the right; BAR_WIDTH wide in all."""
        from matplotlib.ticker import FuncFormatter, MaxNLocator

        axes = self.place(left, top, 0.13, height)
        bar = self.figure.colorbar(
            image,
            cax=axes,
            ticks=MaxNLocator(4 if height < 1.5 else 6),
            format=FuncFormatter(lambda value, _: format_number(value)),
        )
        bar.outline.set_visible(False)
        axes.tick_params(labelsize=SMALL, length=2, colors=FAINT, labelcolor=INK)
        if label:
            axes.set_ylabel(label, fontsize=SMALL, color=FAINT, labelpad=4)


BAR_WIDTH = 1.05  # inches, with numbers of ten characters and a label


def _new_figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


class Ruler:
    """Measures texts in inches, as they will be drawn."""

    def __init__(self) -> None:
        self._figure = _new_figure(1, 1)

    def measure(self, text: str, size: float, weight: str = "normal") -> tuple[float, float]:
        """Return the width and height of a text with any number of lines."""
        from matplotlib.text import Text

        drawn = Text(0, 0, text, fontsize=size, fontweight=weight, figure=self._figure)
        box = drawn.get_window_extent(self._figure.canvas.get_renderer())  # type: ignore[attr-defined]
        return box.width / DPI, box.height / DPI

    def widest(self, texts: list[str], size: float, weight: str = "normal") -> tuple[float, float]:
        """Return the largest width and the largest height of several texts."""
        sizes = [self.measure(text, size, weight) for text in texts] or [(0.0, 0.0)]
        return max(w for w, _ in sizes), max(h for _, h in sizes)


def draw_map(
    axes: Axes, plane: Array, limits: Limits, cmap: Colormap, title: str = "", flawed: bool = False
) -> AxesImage:
    """Draw one map (H, W) to fill its axes; what is not finite has a colour of its own."""
    shown = np.ma.masked_invalid(plane.astype(np.float64))
    low, high = limits
    image = axes.imshow(shown, cmap=cmap, vmin=low, vmax=high, aspect="auto")
    bare(axes, FLAW if flawed else None)
    if title:
        colour = FLAW if flawed else INK
        axes.set_title(title, fontsize=SMALL, color=colour, pad=PAD * 72 * 0.7, linespacing=1.15)
    return image


def bare(axes: Axes, frame: str | None = None) -> None:
    """Remove the ticks, and the frame unless a colour is given for it."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(frame is not None)
        spine.set_edgecolor(frame or INK)
        spine.set_linewidth(1.6)


def widen(limits: Limits | None) -> Limits:
    """Return colour limits that differ, also for a single value or none."""
    if limits is None:
        return 0.0, 1.0
    low, high = limits
    return (low, high) if high > low else (low, low + (abs(low) / 10 or 1.0))


def shorten(text: str, most: int) -> str:
    """Return `text`, or its head and tail around an ellipsis beyond `most` characters."""
    if len(text) <= most:
        return text
    tail = (most - 1) * 2 // 3
    return f"{text[: most - 1 - tail]}…{text[-tail:]}"


def fit_box(height: int, width: int, side: float) -> tuple[float, float]:
    """Return width and height in inches for a map, with about the area of a square of `side`.

    Shapes beyond 1 : 3 are stretched to that, strips of one pixel to 1 : 6.
    """
    most = 6.0 if 1 in (height, width) else 3.0
    ratio = min(max(width / height, 1 / most), most)
    return side * ratio**0.5, side / ratio**0.5
