"""Partials of tensors, made plainly, and what a fold of them must come to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fmstats.backends.base import Backend
from fmstats.backends.reference import ReferenceBackend
from fmstats.statistic.clock import Clock
from fmstats.statistic.fields import MODES
from fmstats.statistic.float_order import order_keys
from fmstats.statistic.packing import Packing
from fmstats.statistic.partials import join
from fmstats.statistic.state import State
from fmstats.statistic.thresholds import Thresholds
from fmstats.statistic.view import view_of

THRESHOLDS = {
    "plain": Thresholds(),
    "upper": Thresholds(high=1.0),
    "all": Thresholds(zero_tol=0.25, low=-0.5, high=1.0),
}
assert {mode: t.mode for mode, t in THRESHOLDS.items()} == {mode: mode for mode in MODES}


@dataclass(repr=False)
class Layer:
    """A layer of a graph: what its state is, and the tensor that comes, (batch, channels, rest).

    Attributes:
        planes: whether the batch is kept, else one plane.
        state: where to; what the reference makes of all tensors is in `want`.
    """

    x: Tensor
    mode: str = "plain"
    planes: bool = True
    state: State = field(default=None)  # type: ignore[assignment]
    want: State = field(default=None)  # type: ignore[assignment]

    def __post_init__(self) -> None:
        self.state = State.identity(self.x.shape[1]) if self.state is None else self.state
        self.want = State.identity(self.x.shape[1]) if self.want is None else self.want

    @property
    def positions(self) -> int:
        return self.x.shape[0] * self.x.shape[2]

    @property
    def packing(self) -> Packing:
        planes = self.x.shape[0] if self.planes else 1
        return Packing.of(self.positions // planes)

    def partials(self) -> Tensor:
        over = 2 if self.planes else (0, 2)
        t, x = THRESHOLDS[self.mode], self.x.double()
        finite = x.isfinite()
        low = -math.inf if t.low is None else t.low
        high = math.inf if t.high is None else t.high
        numbers = torch.where(finite, x, 0.0)

        def key(beyond: float) -> Tensor:
            return order_keys(torch.where(finite, self.x, beyond))

        counts = {
            "nan": x.isnan().sum(over),
            "pos_inf": (x == math.inf).sum(over),
            "neg_inf": (x == -math.inf).sum(over),
            "zeros": (x.abs() <= t.zero_tol).sum(over),
            "sat_low": (x <= low).sum(over),
            "sat_high": (x >= high).sum(over),
        }
        groups = self.packing.groups(self.mode)
        made = {
            **{"+".join(group): self.packing.pack([counts[c] for c in group]) for group in groups},
            "sum": numbers.sum(over),
            "sum_sq": numbers.square().sum(over),
            "min": key(math.inf).amin(over),
            "max": key(-math.inf).amax(over),
        }
        made = {name: part.view(-1, self.x.shape[1]) for name, part in made.items()}
        return join(made, self.mode, self.packing)


def open_clock() -> Clock:
    """A clock whose gate is open, and that shows another pass and step than any default."""
    clock = Clock()
    for name, value in (("first_pass", 7), ("first_step", 40), ("phase", 0)):
        clock.set(name, value)
    return clock


def arguments(layers: Sequence[Layer], clock: Clock) -> tuple[object, ...]:
    """What `Backend.fold` takes of these layers."""
    return (
        [layer.partials() for layer in layers],
        [layer.state.memory for layer in layers],
        clock.words,
        [layer.positions for layer in layers],
        [MODES.index(layer.mode) for layer in layers],
    )


def fold(backend: Backend, layers: Sequence[Layer], clock: Clock | None = None) -> None:
    """Fold the tensors of some layers, and have the reference measure them as well."""
    clock = open_clock() if clock is None else clock
    backend.fold(*arguments(layers, clock))  # type: ignore[arg-type]
    for layer in layers:
        thresholds, view = THRESHOLDS[layer.mode], view_of(layer.x, 1)
        time = Clock.in_words(clock.words.clone())
        ReferenceBackend().accumulate(layer.want, layer.x, view, thresholds, time)


def _transposed(partials: Tensor) -> Tensor:
    return partials.mT.contiguous().mT


def _displaced(partials: Tensor) -> Tensor:
    return torch.cat([partials.new_zeros(1), partials.flatten()])[1:].view(partials.shape)


def _changed(change: Any) -> Any:
    return lambda a: a[0].__setitem__(0, change(a[0][0]))


# What is done to the arguments of one layer of (3, 4, 30), plain, and what is said of it then.
MISFITS: list[tuple[Any, str]] = [
    (lambda a: a[1].append(a[1][0]), "1 tensors of partials, 2 states, 1 positions and 1 modes"),
    (lambda a: a[4].__setitem__(0, 3), "mode 3 is not known; modes are 0 to 2"),
    (lambda a: a[0].clear(), "got 0 tensors of partials"),
    (_changed(lambda partials: partials.float()), r"partials of layer 0 must be .*float32"),
    (_changed(lambda partials: partials[:-1]), r"int32 of shape \(7, 3, 4\), .*\(6, 3, 4\)"),
    (_changed(lambda partials: partials[:, :, :2]), r"int32 of shape \(7, 3, 4\), .*\(7, 3, 2\)"),
    (_changed(lambda partials: partials[0]), "must be contiguous .*words, planes"),
    (_changed(_transposed), "partials of layer 0 must be contiguous"),
    (_changed(_displaced), "partials of layer 0 begin at no multiple of 8 bytes"),
    (_changed(lambda partials: partials.to("meta")), "partials of layer 0 are on meta"),
    (lambda a: a[1].__setitem__(0, State.identity(5).memory), r"int32 of shape \(7, 3, 5\)"),
    (lambda a: a[1].__setitem__(0, a[1][0][:-1]), "state of layer 0 is no memory of a State"),
    (lambda a: a.__setitem__(2, a[2][:3]), "a clock is 8 int64"),
    (lambda a: a[3].__setitem__(0, 91), "layer 0 has 91 positions a channel in 3 planes"),
    (lambda a: a[3].__setitem__(0, 0), "layer 0 has 0 positions a channel in 3 planes"),
    (lambda a: a[3].__setitem__(0, 3 * 2**24), "each has the same number, from 1 to 16777215"),
]
