"""What a run leaves behind: a text for the terminal, and a profile, JSON or CSV file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from fmstats.errors import FmstatsError
from fmstats.files import check_place, write_whole
from fmstats.metadata import count_profiles
from fmstats.profiles import Profile
from fmstats.storage import save

OUTPUT_SUFFIXES = (".fmstats", ".json", ".csv")

# More notes than this would push the table off the screen.
_NOTES_SHOWN = 12
_NAMES_SHOWN = 5  # in one line


def describe_run(profile: Profile) -> str:
    """What was run, the table of layers, the findings, and what was selected but not measured."""
    metadata = profile.metadata
    parts = [describe_metadata(profile), str(profile), f"Findings\n{profile.diagnose()}"]
    notes = [
        f"  {row.get('name')} ({row.get('type')}): {row.get('status')}"
        + (f", {row['reason']}" if row.get("reason") else "")
        for row in _listed(metadata.get("coverage"))
        if isinstance(row, Mapping)
    ]
    skipped = [f"  {name}" for name in _listed(metadata.get("skipped"))]
    for title, lines in (("Not measured", notes), ("Unreadable, left out", skipped)):
        if lines:
            more = len(lines) - _NOTES_SHOWN
            shown = lines[:_NOTES_SHOWN] + ([f"  and {more} more"] if more > 0 else [])
            parts.append("\n".join([title, *shown]))
    return "\n\n".join(parts)


def describe_metadata(profile: Profile) -> str:
    """How much was seen, of what and by what, as far as the metadata tells."""
    metadata = profile.metadata
    seen = [f"{key}: {metadata[key]}" for key in ("samples", "batches") if key in metadata]
    if isinstance(metadata.get("seconds"), int | float):
        seen.append(f"seconds: {metadata['seconds']:.1f}")
    lines = [", ".join(seen)]
    merged = count_profiles(metadata)
    if merged > 1:
        lines.append(f"merged from {merged} profiles: {_name_some(metadata.get('sources'))}")
    if "started" in metadata and "ended" in metadata:
        lines.append(f"from {metadata['started']} to {metadata['ended']}")
    if "differs" in metadata:
        lines.append(f"not the same in all of them: {_name_some(metadata['differs'])}")
    return "\n".join(filter(None, lines))


def _listed(value: object) -> Sequence[object]:
    """The value, if it is a list: metadata read from a file can be anything."""
    return value if isinstance(value, list | tuple) else ()


def _name_some(names: object) -> str:
    listed = list(map(str, _listed(names)))
    more = len(listed) - _NAMES_SHOWN
    return ", ".join(listed[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def check_output(path: Path) -> None:
    """Refuse a file that `write_profile` could not write.

    Raises:
        FmstatsError: its suffix is none of `OUTPUT_SUFFIXES`, its folder is missing or closed, or
            pandas is missing for .csv.
    """
    suffix = path.suffix.lower()
    if suffix not in OUTPUT_SUFFIXES:
        raise FmstatsError(
            f"cannot write {str(path)!r}: a result ends in {', '.join(OUTPUT_SUFFIXES)}"
        )
    check_place(path)
    if suffix == ".csv":
        try:
            import pandas  # noqa: F401
        except ImportError as error:
            raise FmstatsError(
                f"writing {str(path)!r} needs pandas, which cannot be imported ({error}): "
                "pip install 'fmstats[pandas]', or write .json"
            ) from error


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
    table = suffix == ".csv"
    text = profile.to_pandas().to_csv(index=False) if table else format_json(profile.to_dict())
    write_whole(path, text.encode())


def format_json(values: Mapping[str, object]) -> str:
    """JSON text for strict parsers, which know no NaN and no infinity: both become null."""
    return json.dumps(_to_plain(values), allow_nan=False, indent=1) + "\n"


def _to_plain(value: object) -> object:
    """`value` as JSON has it: other objects than numbers, text and collections become text."""
    if isinstance(value, Mapping):
        return {str(key): _to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_to_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
