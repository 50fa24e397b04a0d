"""A look runs a model's forward pass on a copy of all that it can reach, then drops the copy.

The user's modules, tensors, caches and arguments are not touched.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from itertools import chain
from typing import Any

import torch
from torch import nn

from fmstats.models.copies.objects import Copier
from fmstats.models.copies.reach import Reach
from fmstats.models.copies.scripts import stand_in
from fmstats.models.copies.settings import settings_kept
from fmstats.models.copies.surroundings import kept
from fmstats.models.copies.tensors import RealTensors, Tensors
from fmstats.models.copies.undo import undone


class Look:
    """A look has copies of a model and of what it is called with.

    What cannot be copied, such as a lock, is the user's own; its attributes are put back.

    Args:
        model: which is left as it is.
        tensors: makes the copies' tensors.
        beside: what else is copied, with what it shares with the model.

    Attributes:
        model, beside: the copies.
    """

    def __init__(self, model: nn.Module, tensors: Tensors, beside: Any = None) -> None:
        self._tensors = tensors
        self._copier = Copier(tensors)
        self._reach: Reach | None = None
        with settings_kept(), torch.inference_mode(False), torch.no_grad():
            tensors.own(chain(model.parameters(), model.buffers()))
            self.model = stand_in(self._copier.copy(model))
            self.beside: Any = self._copier.copy(beside)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Let the copies run, for the time of a `with`.

        Meanwhile the globals, class attributes, closures and caches of `functools` that their code
        can reach are copies too. Afterwards these, the settings of the process and its random
        numbers are what they were, and so are the bytes of parameters that were written into.
        """
        if self._reach is None:
            self._reach = Reach(self._copier)
        aliased = self._tensors.aliased if isinstance(self._tensors, RealTensors) else {}
        with settings_kept(), kept(self._reach), undone(aliased):
            yield

    def forget(self) -> None:
        """Let go of the copies, which are of no use any more."""
        self._copier.forget()


@contextlib.contextmanager
def look(model: nn.Module, tensors: Tensors, beside: Any = None) -> Iterator[Look]:
    """Copy a model and what it is called with, for the time of a `with`."""
    looking = Look(model, tensors, beside)
    try:
        yield looking
    finally:
        looking.forget()
