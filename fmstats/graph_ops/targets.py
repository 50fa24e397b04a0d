"""Numbers stand for what graphs measure: the hooks and rows of trackers in this process."""

from __future__ import annotations

import functools
import itertools
import os
import weakref
import zlib
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fmstats._version import __version__
from fmstats.backends.native import load_native, why_no_native
from fmstats.graph_ops.directly import call_directly

__all__ = [
    "MeasuredInGraphs",
    "Numbered",
    "PassShortcut",
    "Shortcut",
    "Target",
    "find_target",
    "number_of",
    "shorten_passes",
    "why_no_kernel",
]


class Numbered(Protocol):
    """A number stands for it in graphs."""

    number: int


class Target(Numbered, Protocol):
    """A target is a hook, as graphs call it."""

    def observe(self, x: Tensor | None, training: bool) -> None:
        """Do what a hook does; `x` is what it is handed, None for the hook of a pass."""


class MeasuredInGraphs(Numbered, Protocol):
    """This target measures tensors of a row."""

    def update(self, x: Tensor) -> None:
        """Measure a tensor into the memory of the row."""

    def measure(self, x: Tensor, state: Tensor, clock: Tensor) -> None:
        """Measure a tensor, and leave memories of a graph as what was measured is then."""


_targets: weakref.WeakValueDictionary[int, Numbered] = weakref.WeakValueDictionary()
# Numbers are part of graphs, hence of the key under which Inductor keeps its code on disk: each
# version has its own, so that none runs what another one has generated, or with another choice.
_generator = f"{__version__} {os.environ.get('FMSTATS_FUSED')}"
_numbers = itertools.count(zlib.crc32(_generator.encode()) << 20)


def number_of(target: Numbered) -> int:
    """Return a number by which graphs find a target for as long as it lives."""
    number = next(_numbers)
    _targets[number] = target
    return number


def find_target(number: int) -> Any:
    """Return what a number stands for; None if that is no more."""
    return _targets.get(number)


class Shortcut:
    """A shortcut takes tensors of a number past Python, to a plan of the native module.

    Args:
        number: of a target; tensors that are not as the last one go on to it.
        plan: of its meter.
        memory: that the plan fills; a tensor that is being measured keeps it.
        gate: a word that is not 0 while tensors are measured; it is kept.
    """

    def __init__(
        self, number: int, plan: object, memory: object, gate: npt.NDArray[np.int64]
    ) -> None:
        self._native, self._number, self._gate = load_native(), number, gate
        assert self._native is not None
        self._native.add_graph_target(
            number=number, plan=plan, memory=memory, open=gate.ctypes.data
        )
        # Before the gate goes, which is held until then.
        self.close = weakref.finalize(self, self._native.remove_graph_target, number)

    def take_calls(self) -> int:
        """Return how many tensors took it since this was asked last."""
        return int(self._native.take_graph_calls(self._number))  # type: ignore[union-attr]


class PassShortcut:
    """A shortcut has graphs begin passes of a number past Python, if that is only to count them.

    Args:
        number: of the hook that begins passes otherwise.
        every: in how many passes one is taken.
        when: the modes whose passes are: "always", "train" or "eval".
        words: what csrc/graph_passes.h names, by these names; they are kept.
    """

    def __init__(
        self, number: int, every: int, when: str, words: dict[str, npt.NDArray[np.int64]]
    ) -> None:
        native, self._words = load_native(), words
        assert native is not None
        native.add_graph_pass(
            number=number,
            every=every,
            when={"always": -1, "eval": 0, "train": 1}[when],
            **{name: held.ctypes.data for name, held in words.items()},
        )
        # Before the words go, which are held until then.
        self.close = weakref.finalize(self, native.remove_graph_pass, number)


@functools.cache
def shorten_passes(function: Callable[..., None]) -> bool:
    """Have generated code begin passes natively, else by this function; tell whether it does."""
    native = load_native()
    if native is None:
        return False
    shorter = native.make_begin_pass_directly(
        function=function,
        in_backward=torch._C._current_graph_task_id,
        is_traced=torch._C._is_tracing,
    )
    for name in ("mark_pass_boundary", "begin_pass_in_graph"):
        call_directly(name, shorter)
    return True


@functools.cache
def why_no_kernel(device_type: str) -> str | None:
    """Give torch the native kernels for a type of device; tell why it has none.

    Where it has none, graphs call Python instead.
    """
    native = load_native()
    if native is None:
        return why_no_native()
    try:
        native.register_observe(
            device_type=device_type.upper(), in_backward=torch._C._current_graph_task_id
        )
    except RuntimeError as error:  # torch is too old
        return str(error)
    api = getattr(Tensor, "__dlpack_c_exchange_api__", None)  # from torch 2.10
    for name in ("observe", "observe_on_host"):
        operation = getattr(torch.ops.fmstats, name).default
        make = getattr(native, f"make_{name}_directly")
        call_directly(name, make(operation=operation, exchange_api=api))
    return None
