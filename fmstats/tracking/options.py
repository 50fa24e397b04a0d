"""The options of `track`, which `profile` and `fmstats profile` share: declared once, and checked.

Signatures for users repeat the names, types and defaults, so that editors show them, and
tests/test_options.py compares them. docs/options_table.py makes the table of docs/options.md, and
the help of the command line has the descriptions.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from fmstats.errors import FmstatsError, check_whole, list_closest
from fmstats.models.saturation import Bounds
from fmstats.models.selection import OPERATION_MARK, Selection, Selector
from fmstats.operations.functional import OPERATIONS
from fmstats.statistic.bins import SCOPES, Bins
from fmstats.statistic.measures import Measures
from fmstats.statistic.thresholds import Thresholds
from fmstats.tracking.arguments import Reader
from fmstats.tracking.gates import WHEN
from fmstats.tracking.grad_scale import GradScale
from fmstats.tracking.group_names import GroupNames
from fmstats.tracking.mask_choice import MaskChoice
from fmstats.tracking.nonfinite import Action, check_action
from fmstats.tracking.sampling import check_share

_MOST_GROUPS = 255  # a number takes a byte


def _metadata(
    description: str, *, choices: tuple[str, ...] = (), shared: bool = True, kept: bool = False
) -> dict[str, Any]:
    """Return what is declared of an option beside its name, type and default.

    Args:
        description: what it asks for, for tables and the help of commands.
        choices: all values that it may have, where these are few.
        shared: `profile` has it as well.
        kept: profiles keep it in their metadata, and those that differ in it do not merge.
    """
    return {"description": description, "choices": choices, "shared": shared, "kept": kept}


@dataclass(frozen=True)
class TrackOptions:
    """What a user asks of `track`, apart from the model.

    What only the model can tell is checked with it: whether selectors match, dims fit and the
    backend serves its device (see `fmstats.tracking.specs`).

    Raises:
        FmstatsError: a value that no model can have, or two options that exclude each other.
    """

    include: Selection = field(
        default=None, metadata=_metadata("Measure these layers; without it, every leaf module.")
    )
    exclude: Selection = field(default=None, metadata=_metadata("Leave these layers out."))
    of: str = field(
        default="output",
        metadata=_metadata(
            "Measure the output of each layer, its input, or the gradient that flows back into "
            "its output.",
            choices=("output", "input", "grad_output"),
            kept=True,
        ),
    )
    when: str = field(
        default="always",
        metadata=_metadata(
            "Measure the forward passes of the model in this mode.",
            choices=WHEN,
            shared=False,
            kept=True,
        ),
    )
    every: int = field(
        default=1, metadata=_metadata("Measure the first of every N forward passes.")
    )
    budget: float | None = field(
        default=None,
        metadata=_metadata(
            "Measure as many passes as cost at most this share of their time, on the host and on a "
            "GPU: 0.01 is a hundredth."
        ),
    )
    channel_dim: str | int | Mapping[Selector, int] = field(
        default="auto",
        metadata=_metadata(
            "Take the channels from this dim; 'auto' finds it by the type of each layer, or where "
            "its channels come from."
        ),
    )
    zero_tol: float = field(
        default=0.0, metadata=_metadata("Count values this close to 0 as zeros.")
    )
    backend: str = field(
        default="auto",
        metadata=_metadata("Measure with this backend; 'fmstats backends' lists them."),
    )
    per_call: bool = field(
        default=False,
        metadata=_metadata(
            "Keep a row name#i for the i-th call of a layer in a forward pass.", kept=True
        ),
    )
    on_error: str = field(
        default="warn",
        metadata=_metadata(
            "Warn once and leave out a layer that cannot be measured as asked, or raise.",
            choices=("raise", "warn"),
        ),
    )
    saturation: Mapping[Selector, Bounds] | None = field(
        default=None,
        metadata=_metadata(
            "Take these bounds (low, high) for the selected layers instead of those of their type."
        ),
    )
    warmup: bool = field(
        default=False,
        metadata=_metadata(
            "Compile kernels now instead of in the first forward pass.", shared=False
        ),
    )
    functional: bool | str | Collection[str] = field(
        default="auto",
        metadata=_metadata(
            "Give rows to functional operations as F.relu(x) and x + y: 'auto', True, False, or "
            "names of operations or rows."
        ),
    )
    on_nonfinite: str | Action = field(
        default="ignore",
        metadata=_metadata(
            "Tell of the first NaN or infinity of a layer: 'warn', 'raise', or call a function.",
            shared=False,
        ),
    )
    mask: str | Reader | Mapping[Selector, str | Reader] | None = field(
        default=None,
        metadata=_metadata(
            "Count the positions that a mask keeps: the name of an argument of forward(), 'auto' "
            "for attention_mask and its like, a function of all arguments, or these by selector."
        ),
    )
    mask_mismatch: str = field(
        default="skip",
        metadata=_metadata(
            "Leave out tensors that the mask does not fit, count all of them, or raise.",
            choices=("skip", "count", "raise"),
        ),
    )
    groups: str | Reader | None = field(
        default=None,
        metadata=_metadata(
            "Keep statistics of each group of positions as well: whole numbers from 0 on, -1 for "
            "none, as the name of an argument or a function of all arguments."
        ),
    )
    group_names: Sequence[str] | Mapping[int, str] | None = field(
        default=None,
        metadata=_metadata("Call the groups by these names instead of their numbers."),
    )
    max_groups: int = field(
        default=64, metadata=_metadata("Refuse groups that are numbered beyond so many.")
    )
    measure: str | Collection[str] | None = field(
        default=None,
        metadata=_metadata(
            "Measure these as well: 'abs' for mean magnitudes, 'kurtosis' for skewness and "
            "kurtosis, 'histogram' for quantiles and shares."
        ),
    )
    histogram: str = field(
        default="layer",
        metadata=_metadata("Keep a histogram of each layer, or of each channel.", choices=SCOPES),
    )
    resolution: int = field(
        default=4,
        metadata=_metadata(
            "Divide each octave of a histogram into 2^N bins, N from 0 to 6: quantiles have a "
            "relative error of at most 2^-N."
        ),
    )
    grad_scale: object = field(
        default=None,
        metadata=_metadata(
            "Divide gradients by what the loss was multiplied by: a number, a GradScaler, ...",
            shared=False,
        ),
    )

    def __post_init__(self) -> None:
        for option in fields(self):
            value, choices = getattr(self, option.name), option.metadata["choices"]
            if choices and value not in choices:
                wanted = " or ".join(map(repr, choices))
                raise FmstatsError(f"{option.name}={value!r}: choose {wanted}")
        check_whole("every", self.every)
        if self.budget is not None:
            check_share(self.budget)
            if self.every != 1:
                raise FmstatsError(f"every={self.every} and budget={self.budget}: give one of them")
        check_functional(self.functional)
        check_action(self.on_nonfinite)
        _check_positions(self)
        Thresholds(self.zero_tol)
        GradScale(self.grad_scale)
        if self.measures.bins is not None and self.grad_scale is not None:
            raise FmstatsError(
                "measure='histogram' counts numbers as they are: leave out grad_scale=, and read "
                "the quantiles of gradients divided by the scale"
            )
        if self.grad_scale is not None and self.of != "grad_output":
            raise FmstatsError(f"grad_scale= is for of='grad_output', not of={self.of!r}")

    @property
    def measures(self) -> Measures:
        """Return what is measured beside what always is."""
        return Measures.of(self.measure or (), Bins(self.histogram, self.resolution))

    @property
    def functional_names(self) -> Collection[str] | None:
        """Return the operations and rows that `functional` names; None if it names none."""
        if isinstance(self.functional, bool) or self.functional == "auto":
            return None
        return (self.functional,) if isinstance(self.functional, str) else self.functional

    @property
    def channel_dim_follows(self) -> bool:
        """Return whether the dim of some layer is to be found where its channels go."""
        return not isinstance(self.channel_dim, int)

    def shared(self) -> dict[str, Any]:
        """Return the options that `profile` has as well: a checkpoint compares them."""
        return self._those("shared")

    def kept(self) -> dict[str, Any]:
        """Return what profiles keep in their metadata, and do not merge where they differ in it."""
        return {**self._those("kept"), "masked": self.mask is not None}

    def _those(self, mark: str) -> dict[str, Any]:
        marked = (option.name for option in fields(self) if option.metadata[mark])
        return {name: getattr(self, name) for name in marked}


def _check_positions(options: TrackOptions) -> None:
    """Refuse a mask or groups that no pass can have."""
    MaskChoice(options.mask)
    groups = options.groups
    if not (groups is None or isinstance(groups, str) or callable(groups)):
        raise FmstatsError(
            f"groups={groups!r}: give the name of an argument of forward() or a function of "
            "(args, kwargs); a tensor is given by tracker.positions(groups=...)"
        )
    GroupNames(options.group_names)
    check_whole("max_groups", options.max_groups)
    if options.max_groups > _MOST_GROUPS:
        raise FmstatsError(f"max_groups={options.max_groups}: at most {_MOST_GROUPS}")


def check_functional(asked: object) -> None:
    """Refuse what is no choice of functional operations.

    Raises:
        FmstatsError: it is neither a bool, nor a name or a collection of names, or a name can be
            that of no operation and no row.
    """
    if isinstance(asked, bool) or asked == "auto":
        return
    names = [asked] if isinstance(asked, str) else asked
    if not isinstance(names, Collection) or not all(isinstance(name, str) for name in names):
        raise FmstatsError(
            f"functional={asked!r}: choose 'auto', True, False, or names of operations or of rows"
        )
    for name in names:
        if not (name in OPERATIONS or OPERATION_MARK in name or set(name) & set("*?[")):
            raise FmstatsError(
                f"functional={asked!r}: {name!r} is no operation that has rows; closest: "
                f"{list_closest(name, OPERATIONS)}; rows are named as 'module/relu' or '*/relu'"
            )


def describe_option(name: str) -> str:
    """Return what an option asks for, in a sentence."""
    description: str = TrackOptions.__dataclass_fields__[name].metadata["description"]
    return description
