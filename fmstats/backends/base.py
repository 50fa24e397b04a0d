"""What every backend promises."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from fmstats.errors import FmstatsError
from fmstats.statistic.state import State
from fmstats.statistic.thresholds import Thresholds
from fmstats.statistic.view import View

# The dtypes whose elements have the statistic; all others are skipped with a reason.
DTYPES = (
    torch.float32,
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
)


class Backend:
    """Folds tensors into states.

    Attributes:
        name: what users type.
        devices: device types it serves; empty for every type.
    """

    name: ClassVar[str]
    devices: ClassVar[tuple[str, ...]] = ()

    def why_not(self, device: torch.device | None = None) -> str | None:
        """Why this backend cannot be used here, on `device` if one is given; None if it can."""
        return None

    def describe(self) -> str:
        """What it runs with, for people."""
        raise NotImplementedError

    def serves(self, device: torch.device) -> bool:
        """Whether tensors of this `device` are for this backend."""
        return not self.devices or device.type in self.devices

    def accumulate(self, state: State, x: Tensor, view: View, thresholds: Thresholds) -> None:
        """Fold `x`, read as `view`, into `state` in place, on the tensor's device.

        Empty tensors change nothing. The caller has checked dtype, device and channels with
        `check_input`.

        Args:
            state: what has been seen so far.
            x: a strided tensor of one of `DTYPES`; it is not changed.
            view: how to read it as channels x positions.
            thresholds: what counts as zero and as saturated.
        """
        raise NotImplementedError

    def warm_up(self, device: torch.device, dtype: torch.dtype, thresholds: Thresholds) -> None:
        """Compile what tensors of a device and dtype most likely need, so that none waits for it.

        What they need beside is compiled when it is needed. Nothing is launched.

        Args:
            device: of the tensors to come.
            dtype: of the tensors to come.
            thresholds: what will count as zero and as saturated.
        """

    def meter(self, state: State, thresholds: Thresholds) -> Meter:
        """What folds one layer's tensors into `state`.

        Args:
            state: of the layer, filled in place.
            thresholds: what counts as zero and as saturated, of all tensors of the layer.
        """
        return Meter(self, state, thresholds)


class Meter:
    """Folds the tensors of one layer into one state.

    Attributes:
        backend: what measures.
        state: where to.
        try_fold: folds an output at once if it is a plain tensor of the same device, dtype, shape
            and strides as the last one folded. False if it is anything else, or if the backend has
            no such way: then nothing was done, and `fold` is to be called.
    """

    def __init__(self, backend: Backend, state: State, thresholds: Thresholds) -> None:
        self.backend, self.state, self._thresholds = backend, state, thresholds
        self.try_fold: Callable[[object], bool] = decline

    def fold(self, x: Tensor, view: View) -> None:
        """Fold `x`, read as `view`; `check_input` has passed it."""
        self.backend.accumulate(self.state, x, view, self._thresholds)

    def wait(self) -> None:
        """Return when all that was folded is in the state, whatever stream it was folded on."""

    def reset(self) -> None:
        """Forget all that was folded, in place: a CUDA graph may go on filling the state."""
        self.wait()
        self.state.reset_()
        self.wait()  # the next fold may be on another stream


def decline(output: object) -> bool:
    """The `try_fold` of a meter that has none."""
    return False


def check_input(state: State, x: Tensor, view: View) -> None:
    """Refuse what no backend may be handed.

    Args:
        state: the tensor is to be folded into it.
        x: the tensor.
        view: how it is to be read.

    Raises:
        FmstatsError: as `check_tensor`, or other channels, or another device.
    """
    check_tensor(x)
    if view.channels != state.channels:
        raise FmstatsError(
            f"a tensor of {view.channels} channels cannot join statistics of {state.channels}"
        )
    if x.device != state.words.device:
        raise FmstatsError(f"a tensor on {x.device} cannot join statistics on {state.words.device}")


def check_tensor(x: Tensor) -> None:
    """Refuse a tensor that has no statistics, however it is read.

    Raises:
        FmstatsError: a dtype or layout without the statistic, or no memory.
    """
    if x.is_nested or x.layout != torch.strided:
        kind = "nested" if x.is_nested else str(x.layout)
        raise FmstatsError(f"cannot measure a {kind} tensor: only strided tensors have channels")
    if x.is_meta:
        raise FmstatsError("cannot measure a tensor on the meta device, which has no data")
    if x._is_zerotensor():
        raise FmstatsError("cannot measure a tensor of zeros that has no memory (ZeroTensor)")
    if x.dtype not in DTYPES:
        names = ", ".join(str(d).removeprefix("torch.") for d in DTYPES)
        raise FmstatsError(f"cannot measure {x.dtype}: the statistic is of {names}")
