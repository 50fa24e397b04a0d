"""What a run leaves behind: what is printed, and a profile, JSON or CSV file."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torch import nn

from fmstats.errors import FmstatsError
from fmstats.files import check_place, write_whole
from fmstats.layer_columns import LAYER_COLUMNS
from fmstats.metadata import count_profiles
from fmstats.profiles import Profile
from fmstats.selection import fitting
from fmstats.storage import save
from fmstats.tables import (
    Block,
    Column,
    Row,
    Table,
    find_column,
    make_printable,
    sort_rows,
    space_out,
)

OUTPUT_SUFFIXES = (".fmstats", ".json", ".csv")

# More notes than this would push the table off the screen.
_NOTES_SHOWN = 12
_NAMES_SHOWN = 5  # in one line
_ALWAYS = 1000  # more than the `keep` of any column


def choose_layers(
    profile: Profile,
    *,
    layers: Sequence[str] = (),
    depth: int | None = None,
    sort: str | None = None,
    top: int | None = None,
) -> Table:
    """The layer table of a profile, or a part of it.

    Args:
        profile: of which the findings stay those of the whole, whatever is shown.
        layers: names or globs of layers; none: all.
        depth: parts of a name; layers below are taken together, see `Profile.pooled`.
        sort: a column, see `fmstats.tables.sort_rows`; None: the order of execution.
        top: so many rows, the first ones.

    Raises:
        FmstatsError: no such column or layer, or a depth below 1.
    """
    if layers:
        names = {name for pattern in layers for name in _find_layers(profile, pattern)}
        chosen = {name: layer for name, layer in profile.info.items() if name in names}
        profile = Profile(chosen, profile.metadata)
    rows: Sequence[Row] = (profile if depth is None else profile.pooled(depth)).layers()
    columns: Sequence[Column] = LAYER_COLUMNS
    if sort is not None:
        rows = sort_rows(rows, columns, sort)
        by = find_column(columns, sort.removeprefix("-"))
        columns = [replace(c, keep=_ALWAYS) if c is by else c for c in columns]
    return Table(columns, rows[:top])


def _find_layers(profile: Profile, pattern: str) -> list[str]:
    # The rule asks a module for its type only, which a profile does not have.
    return fitting(pattern, dict.fromkeys(profile, nn.Identity()), "--layer")


def describe_run(
    profile: Profile, table: Table | None = None, title: Sequence[str] = ()
) -> list[Block]:
    """What was run, the layers, the findings, what was not measured and what was left out.

    `table` has the layers to show, None: all of them; lines of `title` come first.
    """
    metadata = profile.metadata
    table = choose_layers(profile) if table is None else table
    blocks: list[Block] = ["\n".join(filter(None, [*title, describe_metadata(profile)]))]
    if table.rows or not profile:
        blocks.append(table if table.rows else str(profile))
    blocks.append(f"Findings\n{profile.diagnose()}")
    notes = [
        f"{row.get('name')} ({row.get('type')}): {row.get('status')}"
        + (f", {row['reason']}" if row.get("reason") else "")
        for row in _listed(metadata.get("coverage"))
        if isinstance(row, Mapping)
    ]
    skipped = list(map(str, _listed(metadata.get("skipped"))))
    if notes:
        blocks.append(_list_some("Not measured", notes, len(notes)))
    if skipped:
        # The list is cut where it would grow with the data; the number is not.
        told = metadata.get("skipped_count")
        number = max(len(skipped), told) if type(told) is int else len(skipped)
        blocks.append(_list_some(f"Left out: {_count_left_out(number)}", skipped, number))
    return space_out(filter(None, blocks))


def _count_left_out(number: int) -> str:
    return "1 sample or batch" if number == 1 else f"{number:,} samples or batches"


def _list_some(title: str, lines: Sequence[str], number: int) -> str:
    shown = [f"  {make_printable(line)}" for line in lines[:_NOTES_SHOWN]]
    more = number - len(shown)
    return "\n".join([title, *shown, *([f"  and {more:,} more"] if more > 0 else [])])


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


def format_csv(rows: Sequence[Row]) -> str:
    """A header and a line per row; empty cells for None and NaN, `1x64x56x56` for shapes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = list(rows[0]) if rows else []
    writer.writerow(names)
    writer.writerows([[_format_cell(row[name]) for name in names] for row in rows])
    return text.getvalue()


def _format_cell(value: object) -> object:
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    return "" if value is None or value != value else value


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
