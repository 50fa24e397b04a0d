"""`tap` gives a row to any tensor in one's own code."""

from __future__ import annotations

from typing import Protocol, TypeVar

import torch
import torch.nn as nn
from torch import Tensor

from fmstats.models.output_tensors import first_tensor
from fmstats.operations.places import modules_around
from fmstats.tracking import compiled as graph

Value = TypeVar("Value")

_is_traced = torch.compiler.is_dynamo_compiling


class Taps(Protocol):
    """The taps of one tracked model."""

    def update_tap(self, name: str, module: nn.Module, value: object) -> bool:
        """Measure what is tapped in a module; return whether it is one of the model."""


# The trackers that are on, and whether there is any: graphs are made again where that changes.
_trackers = graph.tapping
_on = False


def begin(taps: Taps) -> None:
    """Have a tracker see what is tapped."""
    global _on
    _trackers.add(taps)
    _on = True


def end(taps: Taps) -> None:
    """Have a tracker see no tap any more; may be called twice."""
    global _on
    _trackers.discard(taps)
    _on = bool(_trackers)


def tap(x: Value, name: str) -> Value:
    """Return `x` as it is, and measure it wherever a tracker is on.

    In the `forward` of a module `blocks.0` of the tracked model, `tap(x, "scores")` fills the row
    `blocks.0/scores`. Without a tracker it costs a function call, in a compiled model nothing.

    Args:
        x: a tensor, or an output that holds one: its first floating-point tensor is measured.
        name: of the row, within the module whose `forward` calls it.

    Examples:
        >>> import torch
        >>> class Scores(torch.nn.Module):
        ...     def forward(self, x):
        ...         return fmstats.tap(x * 2, "doubled").sum()
        >>> with fmstats.track(model := Scores()) as tracker:
        ...     out = model(torch.ones(4, 3))
        >>> print(tracker.stats()["(model)/doubled"].mean)
        [2. 2. 2.]
    """
    if _on:
        if _is_traced():
            _trace(x, name)
        else:
            _update(x, name)
    return x


def _update(value: object, name: str) -> None:
    around = list(modules_around())
    for taps in list(_trackers):
        for module in around:  # from the innermost on
            if taps.update_tap(name, module, value):
                break


def _trace(value: object, name: str) -> None:
    x = first_tensor(value)
    if isinstance(x, Tensor):
        graph.tap(x, name)
