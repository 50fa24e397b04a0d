"""The operation `fmstats::fold` ends a graph that measures layers within its own kernels.

Those have reduced the tensors of layers to partials (`graph_ops/parts.py`), which it merges into
the states of all layers at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fmstats.backends import Backend, choose_backend, folding
from fmstats.graph_ops.directly import call_directly
from fmstats.graph_ops.library import library

__all__ = ["fold", "prepare"]

# As `Backend.fold` describes them.
library.define(
    "fold(Tensor[] partials, Tensor(a!)[] states, Tensor(b!) clock, SymInt[] positions, "
    "int[] modes) -> ()"
)


_backends: dict[torch.device, Backend] = {}  # that fold on each device


def prepare(device: torch.device) -> None:
    """Choose the backend that folds on a device, and have it compile and load what that takes.

    Whoever makes a graph calls this, for it may be captured next.

    Raises:
        FmstatsError: the backend cannot be used.
    """
    backend = choose_backend("auto", device)
    backend.prepare_fold(device)
    _backends[device] = backend


def fold(
    partials: Sequence[Tensor],
    states: Sequence[Tensor],
    clock: Tensor,
    positions: Sequence[int],
    modes: Sequence[int],
) -> None:
    """Fold the partials of layers, as `fmstats::fold` does, without the dispatcher of torch.

    Raises:
        FmstatsError: the arguments do not fit each other; nothing was done then.
    """
    device = clock.device
    if device not in _backends:
        prepare(device)
    _backends[device].fold(partials, states, clock, positions, modes)


library.impl("fold", fold, "CompositeExplicitAutograd")
call_directly("fold", fold)
torch.library.register_fake("fmstats::fold", folding.check, lib=library)
