"""Write a figure to a file, and refuse unsuitable files before the work."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from fmstats.output.files import check_place, check_suffix, write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURE_SUFFIXES = (".png", ".pdf", ".svg")


def check_picture(path: Path) -> str:
    """Return the suffix of a file that `write_figure` is to write, in lower case.

    Raises:
        FmstatsError: its suffix is none of `PICTURE_SUFFIXES`, or its folder is missing or closed.
    """
    suffix = check_suffix(path, PICTURE_SUFFIXES, "a picture")
    check_place(path)
    return suffix


def write_figure(figure: Figure, path: Path) -> None:
    """Write a figure in the format of its suffix; the file appears whole or not at all.

    Raises:
        FmstatsError: as `check_picture`, or the disk refuses.
    """
    suffix = check_picture(path)
    # Without the time of writing: the same figure gives the same file.
    dated = {".pdf": "CreationDate", ".svg": "Date"}.get(suffix)
    content = io.BytesIO()
    figure.savefig(content, format=suffix[1:], metadata={dated: None} if dated else None)
    write_whole(path, content.getvalue())
