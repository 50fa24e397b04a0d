"""A look at a model: its forward pass runs on a copy of all that it can reach, then all is gone.

The user's modules, tensors, caches and arguments are not touched. `look` gives the copies.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from itertools import chain
from typing import Any

import torch
from torch import nn

from fmstats.twins.objects import Copier
from fmstats.twins.settings import random_state_kept, settings_kept
from fmstats.twins.surroundings import kept
from fmstats.twins.tensors import FakeTensors, RealTensors
from fmstats.twins.undo import undone

__all__ = ["FakeTensors", "RealTensors", "look", "random_state_kept", "settings_kept"]


@contextlib.contextmanager
def look(
    model: nn.Module, beside: Any, tensors: FakeTensors | RealTensors
) -> Iterator[tuple[nn.Module, Any]]:
    """Copies of a model and of what it is called with, for the time of one pass.

    Meanwhile the globals, class attributes, closures and caches of `functools` that the model's
    code can reach are copies as well. Afterwards they, the settings of the process and the random
    numbers are what they were. What cannot be copied, such as a lock, is the user's own: its
    attributes are put back.
    """
    with settings_kept():
        with torch.inference_mode(False), torch.no_grad():
            lazy = nn.parameter.is_lazy
            tensors.own(t for t in chain(model.parameters(), model.buffers()) if not lazy(t))
            copier = Copier(tensors)
            twin, arguments = copier.copy(model), copier.copy(beside)
        aliased = tensors.aliased if isinstance(tensors, RealTensors) else {}
        try:
            with kept(copier), undone(aliased):
                yield twin, arguments
        finally:
            copier.forget()
