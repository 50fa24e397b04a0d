"""These functions read the metadata of profiles, and merge that of two.

A profile may come from anywhere, and a user may put into its metadata what JSON holds: any key may
have any value. So whoever wants something of it asks one of the `read_` functions, which give what
they promise or nothing, and `show_value` writes any value for people.

In whatever order and grouping profiles are merged, their metadata comes out the same, up to the
rounding of seconds: there is a rule for each key.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fmstats.errors import FmstatsError

# Profiles that differ in one of these tell of different things, layer for layer.
OPTIONS = ("of", "when", "per_call", "masked")
_BEFORE = {"masked": False}  # what an option was in profiles that do not tell of it
MOST_SOURCES = 100
DEEPEST = 100  # levels of lists and mappings within one another that are written anywhere
MOST_BITS = 14_000  # of a whole number that is written: Python writes none of 4301 digits

UNKNOWN_MODEL = "an unknown model"

_UNLIKE = object()  # what becomes of values that do not agree
_MOST_COUNTED = 2**63 - 1  # as the counts of a state


def read_text(metadata: Mapping[str, Any], key: str, unknown: str = "") -> str:
    """Read a text; `unknown` where there is none."""
    value = metadata.get(key)
    return value if isinstance(value, str) else unknown


def read_count(metadata: Mapping[str, Any], key: str) -> int | None:
    """Read a number of things, from 0 to 2^63 - 1; None where there is none."""
    value = metadata.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 0 <= value <= _MOST_COUNTED else None


def read_number(metadata: Mapping[str, Any], key: str) -> float | None:
    """Read a finite number; None where there is none."""
    value: Any = metadata.get(key)
    try:
        return float(value) if _is_number(value) and math.isfinite(value) else None
    except OverflowError:  # of a whole number
        return None


def read_list(metadata: Mapping[str, Any], key: str) -> Sequence[Any]:
    """Read a list, of anything; empty where there is none."""
    value = metadata.get(key)
    return value if isinstance(value, list | tuple) else ()


def read_texts(metadata: Mapping[str, Any], key: str) -> list[str]:
    """Read the entries of a list as texts for people."""
    return list(map(show_value, read_list(metadata, key)))


def read_rows(metadata: Mapping[str, Any], key: str) -> list[dict[str, str | None]]:
    """Read the mappings in a list, their values as texts for people; None stays."""
    rows = (row for row in read_list(metadata, key) if isinstance(row, Mapping))
    return [{k: None if v is None else show_value(v) for k, v in row.items()} for row in rows]


def name_model(metadata: Mapping[str, Any]) -> str:
    """Return what the model is called."""
    return read_text(metadata, "model") or UNKNOWN_MODEL


def show_value(value: object, depth: int = DEEPEST) -> str:
    """Show any value as a text for people: texts as they are, else as Python writes it."""
    return value if isinstance(value, str) else _write(value, depth)


def _write(value: object, depth: int) -> str:
    if isinstance(value, int) and value.bit_length() > MOST_BITS:
        return f"a whole number of {value.bit_length():,} bits"
    if isinstance(value, Mapping | list | tuple) and not depth:
        return "..."
    if isinstance(value, Mapping):
        pairs = (f"{_write(k, 0)}: {_write(v, depth - 1)}" for k, v in value.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_write(item, depth - 1) for item in value)}]"
    return repr(value)


def agree(a: object, b: object) -> bool:
    """Tell whether two values are the same; values nested too deep to be compared are not."""
    try:
        return bool(a == b)
    except RecursionError:
        return False


def merge_metadata(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata of both data sets together.

    - `passes`, `passes_measured`, `steps`, `steps_measured`, `samples`, `batches`, `seconds`,
      `skipped_count`, `resumed` and `resumed_batches` are added, and None (unknown) where one of
      them is; of `statistics_share` the largest is kept;
    - `started` is the earlier, `ended` the later one;
    - `profiles` says how many were merged;
    - `sources` names their data (the `data` of each) and `skipped` what could not be read, both
      without repetition, sorted, and cut off after `MOST_SOURCES`;
    - `interrupted`, that a run was stopped before its end, holds for both if it does for one;
    - anything else is kept as long as no two profiles disagree; `differs` lists what was left out.

    Raises:
        FmstatsError: they were made with other options.
    """
    refuse_other_options("merge profiles", a, b)
    a, b = _complete(a), _complete(b)
    merged = {**a, **b}
    differs = {*a["differs"], *b["differs"]}
    for key in a.keys() & b.keys() - {"differs"}:
        merged[key] = _RULES.get(key, _agree)(a[key], b[key])
        if merged[key] is _UNLIKE:
            differs.add(key)
    kept = {key: value for key, value in merged.items() if key not in differs}
    del kept["differs"]
    return {**kept, "differs": sorted(differs, key=str)} if differs else kept


def refuse_other_options(what: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> None:
    """Refuse metadata of which one tells of other things than the other.

    Args:
        what: cannot be done then, for the error.
        a: metadata; what it does not tell may be anything.
        b: metadata, the same.

    Raises:
        FmstatsError: one of `OPTIONS` differs.
    """
    for option in OPTIONS:
        one, other = ({**_BEFORE, **each}.get(option, _UNLIKE) for each in (a, b))
        if _UNLIKE not in (one, other) and not agree(one, other):
            raise FmstatsError(
                f"cannot {what} made with {option}={_write(one, 1)} and "
                f"{option}={_write(other, 1)}: these are statistics of different things"
            )


def count_profiles(metadata: Mapping[str, Any]) -> int:
    """Count the profiles that were merged into the one with this metadata; 1 for none."""
    return read_count(metadata, "profiles") or 1


def _complete(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return metadata with the keys that only merged profiles need."""
    differs = metadata.get("differs")
    data = metadata.get("data")
    complete: dict[str, Any] = {"sources": [data]} if isinstance(data, str) else {}
    complete |= metadata
    complete["profiles"] = count_profiles(metadata)
    complete["differs"] = differs if _is_texts(differs) else []
    return complete


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _agree(a: Any, b: Any) -> Any:
    return a if agree(a, b) else _UNLIKE


def _add(a: Any, b: Any) -> Any:
    if a is None or b is None:
        return None
    if not (_is_number(a) and _is_number(b)):
        return _agree(a, b)
    try:
        return a + b
    except OverflowError:  # of a float and a whole number beyond all floats
        return _UNLIKE


def _either(a: Any, b: Any) -> Any:
    return a or b if isinstance(a, bool) and isinstance(b, bool) else _agree(a, b)


def _unite(a: Any, b: Any) -> Any:
    if not (_is_texts(a) and _is_texts(b)):
        return _agree(a, b)
    return sorted({*a, *b})[:MOST_SOURCES]


def _largest(a: Any, b: Any) -> Any:
    for one, other in ((a, b), (b, a)):
        if one is None or one != one:
            return other
    return max(a, b) if isinstance(a, float) and isinstance(b, float) else _agree(a, b)


def _first(a: Any, b: Any) -> Any:
    return min(a, b) if isinstance(a, str) and isinstance(b, str) else _agree(a, b)


def _last(a: Any, b: Any) -> Any:
    return max(a, b) if isinstance(a, str) and isinstance(b, str) else _agree(a, b)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(text, str) for text in value)


_RULES: dict[str, Callable[[Any, Any], Any]] = {
    **dict.fromkeys(("passes", "passes_measured", "samples", "batches", "seconds"), _add),
    **dict.fromkeys(("steps", "steps_measured"), _add),
    **{"skipped_count": _add, "resumed": _add, "resumed_batches": _add},
    **{"statistics_share": _largest, "interrupted": _either},
    **{"profiles": _add, "sources": _unite, "skipped": _unite, "started": _first, "ended": _last},
}
