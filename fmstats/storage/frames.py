"""These functions write a profile as a table for other programs: CSV, JSON or Parquet."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fmstats.errors import FmstatsError, find_closest, needs
from fmstats.output.files import check_place, check_suffix, encode_text, write_whole
from fmstats.profiles.profile import Profile
from fmstats.storage.exports import format_frame, format_json

if TYPE_CHECKING:
    import pandas as pd

FRAME_SUFFIXES = (".csv", ".json", ".parquet")
_KEYS = ("layer", "type", "channel", "group")  # tell what a row is of


def make_frame(profile: Profile, by: str, names: Sequence[str] | None = None) -> pd.DataFrame:
    """Return a row per "channel" or per "layer" of a profile.

    Args:
        profile: of which all layers have rows.
        by: "channel" for `Profile.to_pandas`, "layer" for `Profile.layers`.
        names: the numbers to keep, in this order; None: all. What a row is of stays.

    Raises:
        FmstatsError: there is no such number, or pandas is missing.
    """
    with needs("fmstats export", "pandas", "'fmstats[pandas]'"):
        from pandas import DataFrame
    frame = profile.to_pandas() if by == "channel" else DataFrame(profile.layers())
    if names is None:
        return frame
    known = list(map(str, frame.columns))
    for name in names:
        if name not in known:
            near = find_closest(name, known, count=1)
            hint = f"; closest: {near[0]}" if near else ""
            raise FmstatsError(
                f"a row per {by} has no {name!r}{hint}; choose from {', '.join(known)}"
            )
    keys = [key for key in _KEYS if key in known]
    return frame[[*keys, *(name for name in names if name not in keys)]]


def check_frame(path: Path) -> None:
    """Refuse a file that `write_frame` could not write.

    Raises:
        FmstatsError: its suffix is none of `FRAME_SUFFIXES`, its folder is missing or closed, or
            pyarrow is missing for .parquet.
    """
    suffix = check_suffix(path, FRAME_SUFFIXES, "a table")
    check_place(path)
    if suffix == ".parquet":
        with needs(f"writing {str(path)!r}", "pyarrow", "pyarrow, or write .csv"):
            import pyarrow  # noqa: F401


def write_frame(frame: pd.DataFrame, path: Path) -> None:
    """Write a table to a file, by its suffix; an existing file is replaced in one step.

    Raises:
        FmstatsError: as `check_frame`, or the disk refuses.
    """
    check_frame(path)
    if path.suffix.lower() == ".parquet":
        buffer = io.BytesIO()
        frame.to_parquet(buffer, index=False)
        write_whole(path, buffer.getvalue())
    else:
        write_whole(path, encode_text(format_table(frame, path.suffix.lower())))


def format_table(frame: pd.DataFrame, suffix: str) -> str:
    """Return a table as ".csv", or as ".json": a list with an object per row."""
    return format_json(frame.to_dict("records")) if suffix == ".json" else format_frame(frame)
