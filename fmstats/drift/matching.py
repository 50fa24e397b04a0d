"""Match the layers of two profiles, and refuse profiles that cannot be compared."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from fmstats.errors import FmstatsError
from fmstats.output.tables import name_some
from fmstats.profiles.merging import find_misfit
from fmstats.profiles.metadata import read_text, refuse_other_options
from fmstats.profiles.profile import Profile
from fmstats.profiles.stacks import StackedLayer

MISSING = ("refuse", "drop")  # what may be done with layers that cannot be compared
_NAMED = 3  # layers named in a message


@dataclass(frozen=True)
class Matching:
    """Holds the layers that can be compared, in the order of execution of the newer profile.

    Attributes:
        left_out: why, by layer, for those that cannot.
    """

    layers: list[str]
    left_out: dict[str, str]


def check_missing(missing: str) -> None:
    """Refuse a `missing` that comparisons do not know.

    Raises:
        FmstatsError: it is neither "refuse" nor "drop".
    """
    if missing not in MISSING:
        raise FmstatsError(f"missing={missing!r}: choose {' or '.join(map(repr, MISSING))}")


def read_only_common(only_common: bool | None, missing: str) -> str:
    """Return what `missing` is where a caller may still say `only_common`, as in fmstats 0.1."""
    if only_common is None:
        return missing
    text = "only_common= is deprecated: missing='drop' says the same"
    warnings.warn(text, DeprecationWarning, stacklevel=3)  # of who called the function
    return "drop" if only_common else missing


def match_layers(now: Profile, baseline: Profile, missing: str, role: str) -> Matching:
    """Pair the rows of two profiles by name; a name stands for the same in both.

    With which widths a layer was called depends on the data: rows of a layer that both profiles
    have are left out where only one has them.

    Args:
        now: the profile in question.
        baseline: what it is compared with.
        missing: "refuse" what cannot be compared, or "drop" it.
        role: what `now` is called in messages.

    Raises:
        FmstatsError: other models, layers, channels or thresholds, unless they are dropped; in any
            case, another `of`, `when` or `per_call`, or nothing in common.
    """
    refuse_other_options(f"compare {role} with the baseline,", now.metadata, baseline.metadata)
    reasons = {name: f"in {role} only" for name in now if name not in baseline}
    reasons |= {name: "in the baseline only" for name in baseline if name not in now}
    common = [name for name in now if name in baseline]
    for name in common:
        both = (StackedLayer.of(profile.info[name]) for profile in (now, baseline))
        reason = find_misfit(*both)  # another type may do the same, in other numbers
        if reason is not None:
            reasons[name] = reason
    layers = [name for name in common if name not in reasons]
    if missing == "refuse":
        of_data = _rows_of_data(now, baseline)
        faults = {name: why for name, why in reasons.items() if name not in of_data}
        _refuse_difference(now, baseline, faults, role)
    if not layers:
        raise FmstatsError(f"{role} and the baseline have no layer in common that can be compared")
    return Matching(layers, reasons)


def _rows_of_data(now: Profile, baseline: Profile) -> set[str]:
    """Return the rows that only one profile has because its data ran that part of the model."""
    if None in (now.metadata.get("structure"), baseline.metadata.get("structure")):
        return set()
    mine, theirs = ({row.layer for row in p.info.values()} for p in (now, baseline))
    return {
        name
        for profile, other in ((now, baseline), (baseline, now))
        for name, row in profile.info.items()
        if name not in other and row.layer in mine & theirs
    }


def _refuse_difference(now: Profile, baseline: Profile, reasons: dict[str, str], role: str) -> None:
    choice = "missing='drop' (--missing drop) compares the layers that fit by name"
    if reasons:
        named = name_some([f"{name!r} ({why})" for name, why in reasons.items()], _NAMED)
        raise FmstatsError(
            f"cannot compare {role} with the baseline: layers differ: {named}. {choice}"
        )
    mine, theirs = (read_text(each.metadata, "structure") for each in (now, baseline))
    if mine and theirs and mine != theirs:
        raise FmstatsError(
            f"cannot compare {role} with the baseline: they are of other models (structure "
            f"{mine!r} and {theirs!r}). {choice}"
        )
