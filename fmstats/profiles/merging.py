"""Profiles are merged with all layers side by side in one state, in one step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from fmstats.errors import FmstatsError
from fmstats.models.experts import ExpertName
from fmstats.profiles.metadata import merge_metadata, name_model, read_text
from fmstats.profiles.profile import Profile, check_profile
from fmstats.profiles.row_names import RowKey, name_rows
from fmstats.profiles.stacks import Stack, StackedLayer
from fmstats.statistic.measures import Measures
from fmstats.statistic.merging import merge_fields
from fmstats.statistic.state import State
from fmstats.statistic.view import tell_dim

MISSING = ("refuse", "keep", "drop")

_BLOCK = 16384  # channels; torch starts threads for twice as many


def merge_profiles(profiles: Sequence[Profile], missing: str) -> Profile:
    """Merge profiles: see `Profile.merge`."""
    check_missing(missing)
    for profile in profiles:
        check_profile(profile, "merge()")
    if len(profiles) == 1:
        return profiles[0].with_metadata(profiles[0].metadata)
    merged = Stack.of(profiles[0])
    for other in profiles[1:]:
        merged = merge_stacks(merged, Stack.of(other), missing)
    return merged.profile()


def call_alike(profiles: Sequence[Profile], like: Profile) -> list[Profile]:
    """Return the profiles, with rows called as those of `like` that are of the same."""
    known = {row.key: name for name, row in like.info.items()}
    every = [row.key for profile in profiles for row in profile.info.values()]
    names = {**name_rows([*known, *every]), **known}
    return [
        Profile({names[row.key]: row for row in profile.info.values()}, profile.metadata)
        for profile in profiles
    ]


def check_missing(missing: str) -> None:
    """Refuse what `merge_stacks` does not know."""
    if missing not in MISSING:
        raise FmstatsError(f"missing={missing!r}: choose 'refuse', 'keep' or 'drop'")


def merge_stacks(a: Stack, b: Stack, missing: str) -> Stack:
    """Merge two stacks, see `Profile.merge`; the state of `a` is overwritten.

    Raises:
        FmstatsError: they do not fit together; nothing is overwritten.
    """
    if missing == "refuse":
        _require_same_model(a, b)
    if missing != "drop":
        _require_same_widths(a, b)
    measures = _measures_of_both(a, b)
    mine, theirs = a.by_key(), b.by_key()
    both = [key for key in mine if key in theirs]
    if missing == "drop":
        both = [key for key in both if _misfit(mine[key], theirs[key]) is None]
        # A group need not be in both profiles, but its layer.
        fit = set(both)
        alone = {
            key: row
            for rows in (mine, theirs)
            for key, row in rows.items()
            if key.group is not None and key not in both and key._replace(group=None) in fit
        }
        if mine and theirs and not both:
            raise FmstatsError("cannot merge profiles that have no layer in common")
    rows = {key: _merge_layers(a.names[key], mine[key], theirs[key]) for key in both}
    rows = {**rows, **alone} if missing == "drop" else {**mine, **theirs, **rows}
    metadata = merge_metadata(a.metadata, b.metadata)
    names = a.names if a.names == b.names and len(rows) == len(a.names) else name_rows(rows)
    state = _arrange(a, rows, measures)
    _merge_states_(state, _arrange(b, rows, measures))
    return Stack({names[key]: row for key, row in rows.items()}, state, metadata)


def _merge_states_(a: State, b: State) -> None:
    """Merge `b` into `a`, some channels at a time: those stay in the cache, and on one core."""
    for begin in range(0, a.channels, _BLOCK):
        one, other = (
            State(state.words[:, begin : begin + _BLOCK], measures=state.measures.without_bins)
            for state in (a, b)
        )
        for field, row in merge_fields(one, other).items():
            one[field].copy_(row)
    if a.bins is not None and b.bins is not None:
        a.bins.add_(b.bins)


def _measures_of_both(a: Stack, b: Stack) -> Measures:
    """Return what both measure; a stack without layers fits any other."""
    one, other = a.state.measures, b.state.measures
    if a.layers and b.layers and one != other:
        raise FmstatsError(
            f"cannot merge profiles of different measures: one has {one}, the other {other}; "
            "Profile.narrowed(measure=...) leaves some out"
        )
    return one if a.layers else other


def _require_same_model(a: Stack, b: Stack) -> None:
    one, other = (read_text(stack.metadata, "structure") for stack in (a, b))
    if one and other and one != other:
        raise FmstatsError(
            "cannot merge profiles of different models: "
            f"{name_model(a.metadata)} ({one:.8}) and {name_model(b.metadata)} ({other:.8}) have "
            "other layers, or parameters of other shapes; missing='drop' (--missing drop) merges "
            "the layers that fit"
        )
    only = {key.layer for key in a.names} ^ {key.layer for key in b.names}
    only = {name for name in only if ExpertName.of(name) is None}  # each rank may have others
    if only:
        raise FmstatsError(
            f"cannot merge profiles of different layers: {len(only)} of them are in one "
            f"profile only, such as {', '.join(map(repr, sorted(only)[:3]))}; missing='drop' "
            "(--missing drop) merges the others, missing='keep' keeps these as well"
        )


def _require_same_widths(a: Stack, b: Stack) -> None:
    """Refuse layers of one name that may be of two models, since they show other widths.

    With which widths and how often one model calls a layer depends on the data.
    """
    one, other = a.metadata.get("structure"), b.metadata.get("structure")
    if a.names == b.names or (isinstance(one, str) and one == other):
        return
    mine, theirs = _widths(a), _widths(b)
    for base in mine:
        if base in theirs and mine[base] != theirs[base]:
            some, others = (
                " and ".join(map(str, sorted(widths[base]))) for widths in (mine, theirs)
            )
            raise FmstatsError(
                f"cannot merge layer {base!r}: {some} channels in one profile, {others} in the "
                "other, and they are not known to be of one model"
            )


def _widths(stack: Stack) -> dict[str, set[int]]:
    widths: dict[str, set[int]] = {}
    for key in stack.names:
        widths.setdefault(key.base, set()).add(key.width)
    return widths


def find_misfit(a: StackedLayer, b: StackedLayer) -> str | None:
    """Tell why the statistics of two rows of one key are not of the same; None if they are."""
    for number in a.dims.keys() & b.dims.keys():
        if a.dims[number] != b.dims[number]:
            return (
                f"{tell_dim(a.dims[number])} and {tell_dim(b.dims[number])} of tensors of "
                f"{number} dims"
            )
    if a.thresholds != b.thresholds:
        return f"counted under different thresholds: {a.thresholds} and {b.thresholds}"
    return None


def _misfit(a: StackedLayer, b: StackedLayer) -> str | None:
    return f"{a.type} and {b.type}" if a.type != b.type else find_misfit(a, b)


def _merge_layers(name: str, a: StackedLayer, b: StackedLayer) -> StackedLayer:
    misfit = _misfit(a, b)
    if misfit is not None:
        raise FmstatsError(f"cannot merge layer {name!r}: {misfit}")
    shape = max(a.shape, b.shape)
    dims = a.dims | b.dims
    return replace(
        a,
        calls=a.calls + b.calls,
        unmasked=a.unmasked + b.unmasked,
        shape=shape,
        channel_dim=dims.pop(len(shape)),
        other_dims=tuple(sorted(dims.items())),
        dtype=unite_lists([a.dtype, b.dtype]),
        backend=unite_lists([a.backend, b.backend]),
    )


def unite_lists(texts: Iterable[str]) -> str:
    """Unite what several lists name, such as "cpu" and "torch, cpu": sorted, each once."""
    return ", ".join(sorted({part for text in texts for part in text.split(", ")}))


def _arrange(stack: Stack, rows: Mapping[RowKey, StackedLayer], measures: Measures) -> State:
    """Return the state with columns for `rows`, in their order: of no data for those it lacks."""
    if list(stack.names) == list(rows):
        return stack.state
    parts = {row.key: part for row, part in zip(stack.layers.values(), stack.parts(), strict=True)}
    states = [
        parts[key] if key in parts else State.identity(row.channels, measures=measures)
        for key, row in rows.items()
    ]
    return State.beside(states, measures)
