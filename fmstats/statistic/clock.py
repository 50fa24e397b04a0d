"""`Clock` tells the kernels of a device what time it is, so that states know when a NaN came."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from fmstats.statistic.fields import FIRSTS, NEVER
from fmstats.statistic.state import State

GATE = ("enabled", "every", "phase", "replayed", "replayed_measured")
WORDS = (*FIRSTS, "alarm", *GATE)  # csrc/state.h has them in the same order
_PLACES = {name: place for place, name in enumerate(WORDS)}
_INITIAL = {**dict.fromkeys(FIRSTS, NEVER), "enabled": 1, "every": 1, "phase": -1}


class Clock:
    """A clock holds the time on one device, in the terms of each of `FIRSTS`, and an alarm.

    A kernel that meets an element that is no finite number writes the time into the state of the
    channel, if none is there yet, and sets the alarm. Nobody waits for it: on a GPU the time is
    set by work on the stream, in the order of what is measured, and in a graph that is replayed.

    Args:
        device: whose kernels read it.

    Attributes:
        words: int64 (len(WORDS),) on the device: the time, `NEVER` as long as it is not known; the
            alarm, 0 until it is set; and the gate of graphs, whose replays no host decides on.
        alarm: that word as NumPy reads it, of a clock on the CPU.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        host = np.array([_INITIAL.get(name, 0) for name in WORDS])
        # Modes of others would give fake memory, which kernels would write to.
        with torch.inference_mode(False), torch.no_grad(), _disable_current_modes():
            words = torch.from_numpy(host).to(device)
        self._show(words, host)

    @classmethod
    def in_words(cls, words: Tensor) -> Clock:
        """Return the clock that these words are, for as long as an operation takes."""
        clock = cls.__new__(cls)
        clock._show(words, words.numpy() if words.is_cpu else np.zeros(len(WORDS), np.int64))
        return clock

    def _show(self, words: Tensor, host: np.ndarray) -> None:
        self.words = words
        self.alarm = host[_PLACES["alarm"] :][:1]  # read in a tenth of the time of a tensor's
        self._host = host if words.is_cpu else None

    def word(self, name: str) -> Tensor:
        """Return one of `WORDS`, a view of one element."""
        place = _PLACES[name]
        return self.words[place : place + 1]

    def set(self, name: str, value: int) -> None:
        """Set one of `WORDS`."""
        place = _PLACES[name]
        if self._host is None:
            self.words[place].fill_(value)
        else:
            self._host[place] = value

    def on_host(self, name: str) -> np.ndarray:
        """Return one of `WORDS` of a clock on the CPU, a view of one element."""
        assert self._host is not None
        return self._host[_PLACES[name] :][:1]

    def advance(self, name: str) -> None:
        """Add one to one of `WORDS`, by work of the device: in a CUDA graph each replay does."""
        self.words[_PLACES[name]].add_(1)

    def begin_pass(self) -> None:
        """Begin a pass of a graph that is replayed, by PyTorch's operations.

        Kernels do it as csrc/state.h tells.
        """
        enabled, phase = self.word("enabled"), self.word("phase")
        for name in ("first_pass", "replayed"):
            self.word(name).add_(enabled)
        phase.copy_(torch.where(enabled != 0, (phase + 1) % self.word("every"), phase))
        self.word("replayed_measured").add_(self.opens().to(torch.int64))

    def opens(self) -> Tensor:
        """Tell whether graphs measure the pass that runs now: bool (1,), on the device."""
        return (self.word("enabled") != 0) & (self.word("phase") == 0)

    def stamp(self, batch: State, *, replayed: bool = False) -> None:
        """Write the time into the channels of a batch that have an element that is not finite.

        This is for backends of PyTorch's operations: kernels do it as csrc/state.h tells.

        Args:
            batch: of a tensor of this pass.
            replayed: a graph does it, whose gate may be closed: then the alarm is not set.
        """
        non_finite = batch.finite != batch["count"]
        for name, now in zip(FIRSTS, self.words, strict=False):
            batch[name].copy_(torch.where(non_finite, now, NEVER))
        met = non_finite.any()
        self.word("alarm").bitwise_or_(met & self.opens() if replayed else met)
