"""Writing a figure to a file, and refusing before the work what could not be written after it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from fmstats.errors import FmstatsError
from fmstats.output.files import check_place, write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURE_SUFFIXES = (".png", ".pdf", ".svg")


def check_picture(path: Path) -> None:
    """Refuse a file that `write_figure` could not write.

    Raises:
        FmstatsError: its suffix is none of `PICTURE_SUFFIXES`, or its folder is missing or closed.
    """
    if path.suffix.lower() not in PICTURE_SUFFIXES:
        raise FmstatsError(
            f"cannot write {str(path)!r}: a picture ends in {', '.join(PICTURE_SUFFIXES)}"
        )
    check_place(path)


def write_figure(figure: Figure, path: Path) -> None:
    """Write a figure in the format of its suffix; the file appears whole or not at all.

    Raises:
        FmstatsError: as `check_picture`, or the disk refuses.
    """
    check_picture(path)
    suffix = path.suffix.lower()
    # Without the time of writing: the same figure gives the same file.
    dated = {".pdf": "CreationDate", ".svg": "Date"}.get(suffix)
    content = io.BytesIO()
    figure.savefig(content, format=suffix[1:], metadata={dated: None} if dated else None)
    write_whole(path, content.getvalue())
