"""These functions export a profile, or rows of a table, as files, JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fmstats.errors import needs
from fmstats.output.files import check_place, check_suffix, encode_text, write_whole
from fmstats.output.tables import Row
from fmstats.profiles.metadata import DEEPEST, MOST_BITS, show_value
from fmstats.profiles.profile import Profile
from fmstats.storage import save

if TYPE_CHECKING:
    import pandas as pd

_ENDING = "\r\n"
OUTPUT_SUFFIXES = (".fmstats", ".json", ".csv")


def check_output(path: Path) -> None:
    """Refuse a file that `write_profile` could not write.

    Raises:
        FmstatsError: its suffix is none of `OUTPUT_SUFFIXES`, its folder is missing or closed, or
            pandas is missing for .csv.
    """
    suffix = check_suffix(path, OUTPUT_SUFFIXES, "a result")
    check_place(path)
    if suffix == ".csv":
        with needs(f"writing {str(path)!r}", "pandas", "'fmstats[pandas]', or write .json"):
            import pandas  # noqa: F401


def write_profile(profile: Profile, path: Path) -> None:
    """Write `profile` to a file: `.fmstats`, `.json` or `.csv`.

    `.fmstats` is what `fmstats.load` reads; `.json` has everything, too, but null where a number is
    not finite; `.csv` has a row per channel.

    Raises:
        FmstatsError: as `check_output`, or the disk refuses.
    """
    check_output(path)
    suffix = path.suffix.lower()
    if suffix == ".fmstats":
        save(profile, path)
        return
    as_csv = suffix == ".csv"
    text = format_frame(profile.to_pandas()) if as_csv else format_json(profile.to_dict())
    write_whole(path, encode_text(text))


def format_csv(rows: Sequence[Row], names: Sequence[str]) -> str:
    """Write a header and a line per row; empty cells for None and NaN, `1x64x56` for shapes.

    Args:
        rows: none, too: the header tells what they would have.
        names: what each row has, in this order.
    """
    text = _Lines()
    writer = csv.writer(text, lineterminator=_ENDING)
    writer.writerow(names)
    writer.writerows([[_format_cell(row[name]) for name in names] for row in rows])
    return text.getvalue()


def format_frame(frame: pd.DataFrame) -> str:
    """Write a DataFrame as CSV, in the same way."""
    text = _Lines()
    frame.to_csv(text, index=False, lineterminator=_ENDING)
    return text.getvalue()


class _Lines(io.StringIO):
    """This class collects lines of CSV; each is given with `_ENDING`, kept with a line feed.

    A writer puts quotes around what a line may end in, and only that before Python 3.13: a name
    with a carriage return needs them, too.
    """

    def write(self, line: str) -> int:
        return super().write(line.removesuffix(_ENDING) + "\n")


def _format_cell(value: object) -> object:
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    return "" if value is None or value != value else value


def format_json(values: Mapping[str, object] | Sequence[object]) -> str:
    """Return JSON for strict parsers, which know no NaN and no infinity: both become null."""
    return json.dumps(_to_plain(values, DEEPEST), allow_nan=False, indent=1) + "\n"


def _to_plain(value: object, depth: int) -> object:
    """Return `value` as JSON has it: what is no number or collection, or too large, as text."""
    if depth and isinstance(value, Mapping):
        return {str(key): _to_plain(item, depth - 1) for key, item in value.items()}
    if depth and isinstance(value, list | tuple):
        return [_to_plain(item, depth - 1) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | str) or _is_short(value):
        return value
    return show_value(value, 0)


def _is_short(value: object) -> bool:
    return isinstance(value, int) and value.bit_length() <= MOST_BITS
