"""Draw the head of a figure: a title, notes below it, and the picture."""

from __future__ import annotations

from fmstats.pictures.canvas import GAP, HEADLINE, MARGIN, PAD, TEXT, Array, Ruler, Sheet

_THUMBNAIL = 0.75  # inches, the height of the picture


class Head:
    """Measures the head of a figure before there is a figure, then draws it.

    Attributes:
        width: what it takes, in inches, without margins.
        top: where the figure goes on below it, in inches from the upper edge.
    """

    def __init__(
        self, ruler: Ruler, title: str, notes: list[str], picture: Array | None = None
    ) -> None:
        self._title, self._notes, self._picture = title, "\n".join(n for n in notes if n), picture
        title_width, title_height = ruler.measure(title, HEADLINE, "bold")
        notes_width, notes_height = ruler.measure(self._notes, TEXT)
        self._notes_top = MARGIN + title_height + 1.5 * PAD
        self.width = max(title_width, notes_width)
        self._thumbnail = 0.0
        below = self._notes_top + notes_height
        if picture is not None:
            ratio = picture.shape[1] / picture.shape[0]
            self._thumbnail = _THUMBNAIL * min(max(ratio, 1 / 3), 3)
            self.width += GAP + self._thumbnail
            below = max(below, MARGIN + _THUMBNAIL)
        self.top = below + GAP

    def draw(self, sheet: Sheet) -> None:
        """Draw it at the top of a sheet, the picture in the right corner."""
        sheet.headline(self._title)
        sheet.write(MARGIN, self._notes_top, self._notes)
        if self._picture is not None:
            left = sheet.width - MARGIN - self._thumbnail
            sheet.paste(self._picture, left, MARGIN, self._thumbnail, _THUMBNAIL)
