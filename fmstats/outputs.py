"""What a run leaves behind: a text for the terminal, and a JSON or CSV file.

A file appears whole or not at all: it is written beside its place and then moved there.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path

from fmstats.errors import FmstatsError
from fmstats.profiles import Profile

# More notes than this would push the table off the screen.
_NOTES_SHOWN = 12


def describe_run(profile: Profile) -> str:
    """The table of layers, the findings, and what was selected but not measured.

    `profile` comes from `fmstats.profile`, whose metadata tells of the run.
    """
    metadata = profile.metadata
    parts = [
        f"samples: {metadata['samples']}, batches: {metadata['batches']}, "
        f"seconds: {metadata['seconds']:.1f}",
        str(profile),
        f"Findings\n{profile.diagnose()}",
    ]
    coverage = metadata["coverage"]
    notes = [
        f"  {row['name']} ({row['type']}): {row['status']}"
        + (f", {row['reason']}" if row["reason"] else "")
        for row in coverage
    ]
    skipped = [f"  {name}" for name in metadata.get("skipped", ())]
    for title, lines in (("Not measured", notes), ("Unreadable, left out", skipped)):
        if lines:
            more = len(lines) - _NOTES_SHOWN
            shown = lines[:_NOTES_SHOWN] + ([f"  and {more} more"] if more > 0 else [])
            parts.append("\n".join([title, *shown]))
    return "\n\n".join(parts)


def check_output(path: Path) -> None:
    """Refuse a file that `write_profile` could not write.

    Raises:
        FmstatsError: its suffix is neither .json nor .csv, its folder is missing or closed, or
            pandas is missing for .csv.
    """
    suffix = path.suffix.lower()
    if suffix not in (".json", ".csv"):
        raise FmstatsError(f"cannot write {str(path)!r}: a result ends in .json or .csv")
    if not path.parent.is_dir():
        raise FmstatsError(f"cannot write {str(path)!r}: there is no folder {str(path.parent)!r}")
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise FmstatsError(f"cannot write {str(path)!r}: it is a folder, or in a read-only one")
    if suffix == ".csv":
        try:
            import pandas  # noqa: F401
        except ImportError as error:
            raise FmstatsError(
                f"writing {str(path)!r} needs pandas, which cannot be imported ({error}): "
                "pip install 'fmstats[pandas]', or write .json"
            ) from error


def write_profile(profile: Profile, path: Path) -> None:
    """Write `profile` to a `.json` file (everything) or a `.csv` file (a row per channel).

    JSON has no NaN and no infinity: both become null.

    Raises:
        FmstatsError: as `check_output`, or the disk refuses.
    """
    check_output(path)
    if path.suffix.lower() == ".csv":
        text = profile.to_pandas().to_csv(index=False)
    else:
        text = json.dumps(_to_plain(profile.to_dict()), allow_nan=False, indent=1) + "\n"
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        beside.write_text(text, encoding="utf-8")
        os.replace(beside, path)
    except OSError as error:
        raise FmstatsError(f"cannot write {str(path)!r}: {error}") from error
    finally:
        beside.unlink(missing_ok=True)


def _to_plain(value: object) -> object:
    """`value` as JSON has it: other objects than numbers, text and collections become text."""
    if isinstance(value, Mapping):
        return {str(key): _to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_to_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
