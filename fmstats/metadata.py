"""How the metadata of two profiles becomes that of both: a rule for each key.

In whatever order and grouping profiles are merged, their metadata comes out the same, up to the
rounding of seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fmstats.errors import FmstatsError

# Profiles that differ in one of these tell of different things, layer for layer.
OPTIONS = ("of", "when", "per_call")
MOST_SOURCES = 100

_UNLIKE = object()  # what becomes of values that do not agree


def merge_metadata(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata of both data sets together.

    - `passes`, `passes_measured`, `samples`, `batches`, `seconds`, `skipped_count`, `resumed` and
      `resumed_batches` are added, and None (unknown) where one of them is; of `statistics_share`
      the largest is kept;
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
    return {**kept, "differs": sorted(differs)} if differs else kept


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
        if option in a and option in b and a[option] != b[option]:
            raise FmstatsError(
                f"cannot {what} made with {option}={a[option]!r} and "
                f"{option}={b[option]!r}: these are statistics of different things"
            )


def count_profiles(metadata: Mapping[str, Any]) -> int:
    """How many profiles were merged into the one with this metadata; 1 for none."""
    number = metadata.get("profiles", 1)
    return number if type(number) is int else 1


def _complete(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """With the keys that only merged profiles need."""
    differs = metadata.get("differs")
    data = metadata.get("data")
    complete: dict[str, Any] = {"sources": [data]} if isinstance(data, str) else {}
    complete |= metadata
    complete["profiles"] = count_profiles(metadata)
    complete["differs"] = differs if _is_texts(differs) else []
    return complete


def _agree(a: Any, b: Any) -> Any:
    return a if a == b else _UNLIKE


def _add(a: Any, b: Any) -> Any:
    if a is None or b is None:  # samples that nobody could count
        return None
    numbers = all(isinstance(x, int | float) and not isinstance(x, bool) for x in (a, b))
    return a + b if numbers else _agree(a, b)


def _unite(a: Any, b: Any) -> Any:
    if not (_is_texts(a) and _is_texts(b)):
        return _agree(a, b)
    return sorted({*a, *b})[:MOST_SOURCES]


def _largest(a: Any, b: Any) -> Any:
    if a is None or b is None:
        return b if a is None else a
    return max(a, b) if isinstance(a, float) and isinstance(b, float) else _agree(a, b)


def _first(a: Any, b: Any) -> Any:
    return min(a, b) if isinstance(a, str) and isinstance(b, str) else _agree(a, b)


def _last(a: Any, b: Any) -> Any:
    return max(a, b) if isinstance(a, str) and isinstance(b, str) else _agree(a, b)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(text, str) for text in value)


_RULES: dict[str, Callable[[Any, Any], Any]] = {
    **dict.fromkeys(("passes", "passes_measured", "samples", "batches", "seconds"), _add),
    **{
        "skipped_count": _add,
        "resumed": _add,
        "resumed_batches": _add,
        "statistics_share": _largest,
    },
    "interrupted": lambda a, b: a or b,
    **{"profiles": _add, "sources": _unite, "skipped": _unite, "started": _first, "ended": _last},
}
