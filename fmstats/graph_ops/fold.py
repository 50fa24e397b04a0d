"""The operation `fmstats::fold` ends a graph that measures layers within its own kernels.

Those have reduced the tensors of layers to partials (`graph_ops/parts.py`), which it merges into
the states of all layers at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fmstats.backends import choose_backend, folding
from fmstats.graph_ops.library import library

__all__ = ["prepare"]

# As `Backend.fold` describes them.
library.define(
    "fold(Tensor[] parts, Tensor(a!)[] states, Tensor(b!) clock, SymInt[] positions, int[] modes, "
    "bool pivoted) -> ()"
)


def prepare(device: torch.device) -> None:
    """Have all that folds on a device need compiled and loaded: a graph may be captured next.

    Raises:
        FmstatsError: the backend of the device cannot do it.
    """
    choose_backend("auto", device).prepare_fold(device)


def _fold(
    parts: Sequence[Tensor],
    states: Sequence[Tensor],
    clock: Tensor,
    positions: Sequence[int],
    modes: Sequence[int],
    pivoted: bool,
) -> None:
    backend = choose_backend("auto", clock.device)
    backend.fold(parts, states, clock, positions, modes, pivoted)


library.impl("fold", _fold, "CompositeExplicitAutograd")
torch.library.register_fake("fmstats::fold", folding.check, lib=library)
