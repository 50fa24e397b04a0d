"""These functions choose what is printed of a run: rows of its table, and what it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from fmstats.errors import FmstatsError
from fmstats.models.selection import fitting_names
from fmstats.output.tables import (
    Block,
    Column,
    Row,
    Table,
    find_column,
    format_plural,
    make_printable,
    name_some,
    sort_rows,
    space_out,
)
from fmstats.profiles.columns import choose_columns
from fmstats.profiles.coverage import describe_row
from fmstats.profiles.gaps import describe_unmasked, name_unmasked
from fmstats.profiles.metadata import (
    count_profiles,
    read_count,
    read_number,
    read_rows,
    read_texts,
    show_value,
)
from fmstats.profiles.profile import NOTHING_MEASURED, Profile

# More notes than this would push the table off the screen.
_NOTES_SHOWN = 12
_NAMES_SHOWN = 5  # in one line
_COUNTED = ("samples", "batches", "steps", "steps_measured")
_GROUPS = 8  # in one line, with their elements
_ALWAYS = 1000  # more than the `keep` of any column


def choose_layers(
    profile: Profile,
    *,
    layers: Sequence[str] = (),
    depth: int | None = None,
    sort: str | None = None,
    top: int | None = None,
) -> Table:
    """Return the layer table of a profile, or a part of it.

    Args:
        profile: of which the findings stay those of the whole, whatever is shown.
        layers: names or globs of layers; none: all.
        depth: parts of a name; layers below are taken together, see `Profile.pooled`.
        sort: a column, see `fmstats.output.tables.sort_rows`; None: the order of execution.
        top: so many rows, the first ones.

    Raises:
        FmstatsError: no such column or layer, or a depth below 1.
    """
    rows: Sequence[Row] = choose_rows(profile, layers=layers, depth=depth).layers()
    columns: Sequence[Column] = choose_columns(rows[0].keys() if rows else ())
    if sort is not None:
        rows = sort_rows(rows, columns, sort)
        by = find_column(columns, sort.removeprefix("-"))
        columns = [replace(c, keep=_ALWAYS) if c is by else c for c in columns]
    return Table(columns, rows[:top])


def describe_order(sort: str | None, top: int | None) -> str:
    """Describe how the rows of a table were chosen and sorted; "" where nothing was asked for."""
    column = "" if sort is None else sort.removeprefix("-")
    order = f"sorted by {column}" if sort is not None else ""
    first = f"the first {format_plural(top, 'row')}" if top else ""
    return ", ".join(filter(None, [order, first]))


def choose_rows(
    profile: Profile, *, layers: Sequence[str] = (), depth: int | None = None
) -> Profile:
    """Return some layers of a profile, or blocks of them: see `choose_layers`."""
    if layers:
        known = {*profile, *(str(row.layer) for row in profile.info.values())}
        names = {name for pattern in layers for name in fitting_names(pattern, known, "--layer")}
        chosen = {n: row for n, row in profile.info.items() if n in names or row.layer in names}
        profile = Profile(chosen, profile.metadata)
    return profile if depth is None else profile.pooled(depth)


def describe_run(
    profile: Profile,
    table: Table | None = None,
    title: Sequence[str] = (),
    beside: Sequence[Block] = (),
    *,
    findings: bool = True,
) -> list[Block]:
    """Describe what was run, the layers, the findings, what was not measured or left out.

    `table` has the layers to show, None: all of them; lines of `title` come first, and what is
    shown `beside` the table follows it. Nothing is judged where no `findings` are asked for.
    """
    metadata = profile.metadata
    table = choose_layers(profile) if table is None else table
    blocks: list[Block] = ["\n".join(filter(None, [*title, describe_metadata(profile)]))]
    if table.rows or not profile:
        blocks.append(table if table.rows else NOTHING_MEASURED)
    blocks += beside
    blocks.append(describe_unmasked(name_unmasked(profile.info)))
    if findings:
        blocks.append(f"Findings\n{profile.diagnose()}")
    notes = [describe_row(row) for row in read_rows(metadata, "coverage")]
    if notes:
        blocks.append(_list_some("Not measured", notes, len(notes)))
    left_out = find_left_out(metadata)
    if left_out.number:
        blocks.append(_list_some(left_out.title, left_out.entries, left_out.number))
    return space_out(filter(None, blocks))


def choose_group(profile: Profile, name: str | None, of: object = "the profile") -> Profile:
    """Return the profile of one group; the whole profile for None.

    Args:
        profile: that has groups.
        name: of the group.
        of: what the profile is called in messages.

    Raises:
        FmstatsError: it has no group of that name.
    """
    if name is None:
        return profile
    if not profile.groups:
        raise FmstatsError(
            f"group {name!r}: {of} has no groups; groups= (--groups) of the run makes them"
        )
    if name not in profile.groups:
        raise FmstatsError(f"group {name!r}: {of} has {name_some(list(profile.groups), _GROUPS)}")
    return profile.groups[name]


def count_elements(profile: Profile) -> dict[str, int]:
    """Return how many elements each group has, in all layers together."""
    return {
        name: sum(int(stats.count.sum()) for stats in part.values())
        for name, part in profile.groups.items()
    }


def _describe_groups(profile: Profile) -> str:
    """Name the groups in a line, with their elements; "" where there are none."""
    counts = count_elements(profile)
    named = [f"{make_printable(name)} ({count:,} elements)" for name, count in counts.items()]
    return f"{format_plural(len(named), 'group')}: {name_some(named, _GROUPS)}" if named else ""


class LeftOut(NamedTuple):
    """`LeftOut` counts samples and batches that are in no statistic.

    Attributes:
        number: of them.
        entries: what and why, of the first ones.
    """

    number: int
    entries: Sequence[str]

    @property
    def title(self) -> str:
        """Tell how many were left out, in words."""
        return "Left out: " + (
            "1 sample or batch" if self.number == 1 else f"{self.number:,} samples or batches"
        )


def find_left_out(metadata: Mapping[str, object]) -> LeftOut:
    """Find what a run left out, as its metadata tells."""
    entries = read_texts(metadata, "skipped")
    # The list is cut where it would grow with the data; the number is not.
    return LeftOut(max(len(entries), read_count(metadata, "skipped_count") or 0), entries)


def _list_some(title: str, lines: Sequence[str], number: int) -> str:
    shown = [f"  {make_printable(line)}" for line in lines[:_NOTES_SHOWN]]
    more = number - len(shown)
    return "\n".join([title, *shown, *([f"  and {more:,} more"] if more > 0 else [])])


def describe_metadata(profile: Profile) -> str:
    """Describe how much was seen, of what and by what, as far as the metadata tells."""
    metadata = profile.metadata
    told = {key: metadata[key] for key in _COUNTED if key in metadata}
    seen = [
        f"{key.replace('_', ' ')}: {'unknown' if n is None else show_value(n)}"
        for key, n in told.items()
    ]
    seconds = read_number(metadata, "seconds")
    if seconds is not None:
        seen.append(f"seconds: {seconds:.1f}")
    lines = [", ".join(seen), _describe_groups(profile)]
    if metadata.get("interrupted") is True:
        lines.append("stopped before its end: not all of the data is in it")
    merged = count_profiles(metadata)
    if merged > 1:
        sources = _name_listed(metadata, "sources")
        lines.append(f"merged from {merged} profiles" + (f": {sources}" if sources else ""))
    if "started" in metadata and "ended" in metadata:
        times = show_value(metadata["started"]), show_value(metadata["ended"])
        lines.append(f"from {times[0]} to {times[1]}")
    if "differs" in metadata:
        lines.append(f"not the same in all of them: {_name_listed(metadata, 'differs')}")
    return "\n".join(filter(None, lines))


def _name_listed(metadata: Mapping[str, object], key: str) -> str:
    return name_some(read_texts(metadata, key), _NAMES_SHOWN)
