"""A gate tells when hooks measure: by the user's wish, the model's mode, and the sampling."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

from fmstats.operations.channel_flow import Origin
from fmstats.operations.position_flow import PositionFlow
from fmstats.operations.watching import Watch
from fmstats.tracking.clocks import Clocks
from fmstats.tracking.positions import PositionReader
from fmstats.tracking.state_memory import StateMemory

IntArray = npt.NDArray[np.int64]
WHEN = ("always", "train", "eval")


@dataclass
class Gate:
    """A gate tells whether hooks measure now; all layers of a tracker share it.

    Attributes:
        paused: the user's wish.
        sampled: this forward pass is one of those that are taken.
        closed: the tracker is: nothing is measured any more, whatever hooks are left in graphs.
        captured: this forward pass goes into a graph that is being captured, whose replays ask the
            clock on the device: hooks measure it, whatever was wished and sampled.
        started: rows begun so far, which is the execution index of the next.
        open: whether hooks measure now: sampled, and neither paused nor closed.
        words: that and what it follows from, as 1 or 0, for native code: open, sampled, paused,
            closed, captured.
        clocks: tell states when a NaN came.
        memory: makes the states.
        watch: knows the channels of tensors while a pass is watched; None: no pass is.
        positions: reads which positions of the inputs of a pass count; None: it is not asked.
    """

    paused: bool = False
    sampled: bool = True
    closed: bool = False
    started: int = 0
    captured: bool = False
    open: bool = field(init=False)  # an attribute, since every hook asks
    words: IntArray = field(default_factory=lambda: np.zeros(5, np.int64), init=False)
    watch: Watch | None = None
    positions: PositionReader | None = None
    clocks: Clocks = field(default_factory=Clocks)
    memory: StateMemory = field(default_factory=StateMemory)

    def __post_init__(self) -> None:
        self.set()

    def set(
        self,
        *,
        paused: bool | None = None,
        sampled: bool | None = None,
        closed: bool | None = None,
        captured: bool | None = None,
    ) -> None:
        """Change any of them, and `open` with them."""
        self.paused = self.paused if paused is None else paused
        self.sampled = self.sampled if sampled is None else sampled
        self.closed = self.closed if closed is None else closed
        self.captured = self.captured if captured is None else captured
        wanted = self.captured or (self.sampled and not self.paused)
        self.open = wanted and not self.closed
        self.words[:] = self.open, self.sampled, self.paused, self.closed, self.captured
        if paused is not None or closed is not None:
            self.clocks.set_enabled(not self.paused and not self.closed)

    def origin_of(self, x: Tensor) -> Origin | None:
        """Return where the channels of a tensor come from, if this pass is watched."""
        flow = None if self.watch is None else self.watch.flow
        return None if flow is None else flow.origin_of(x)

    def next_execution_index(self) -> int:
        """Return the execution index of a row that begins now, and count it."""
        number = self.started
        self.started += 1
        return number


class Updatable(Protocol):
    """An `Updatable` is a layer, as hooks use it."""

    def update(self, output: object) -> None:
        """Update the statistics with the first float tensor of an output."""

    def skip(self, reason: str) -> None:
        """Say why an output was not measured."""

    def fail(self, error: Exception) -> None:
        """Stop measuring, after what the hook does for it has failed."""

    def note_in_python(self, why: str) -> None:
        """Note why graphs hand tensors to Python."""

    def claim(self) -> Updatable:
        """Return what an output of this call is for, to be handed something later."""

    def expect(self, count: int, origin: Origin) -> None:
        """Note where the channels of tensors are that are to come, by their number of dims."""

    def expect_positions(self, x: Tensor, flow: PositionFlow) -> None:
        """Note where positions lie in a tensor to come, which may be without data."""

    def rescale(self, scale: float) -> None:
        """Take outputs for `scale` times what is to be told of them, from now on."""


class StandIn:
    """This layer stands for another, to do something around its updates: subclasses say what.

    Attributes:
        layer: that other one.
        why_in_python: why each of its tensors has to come by, also in a graph.
    """

    why_in_python: ClassVar[str]

    def __init__(self, layer: Updatable) -> None:
        self.layer = layer

    def update(self, output: object) -> None:
        """Update the layer."""
        raise NotImplementedError

    def claim(self) -> Updatable:
        """Return what an output of this call is for, which is stood in for as well."""
        raise NotImplementedError

    def skip(self, reason: str) -> None:
        """Say why an output was not measured."""
        self.layer.skip(reason)

    def note_in_python(self, why: str) -> None:
        """Note why graphs hand tensors to Python."""
        self.layer.note_in_python(why)

    def fail(self, error: Exception) -> None:
        """Stop measuring the layer."""
        self.layer.fail(error)

    def expect(self, count: int, origin: Origin) -> None:
        """Note where the channels of tensors are that are to come, by their number of dims."""
        self.layer.expect(count, origin)

    def expect_positions(self, x: Tensor, flow: PositionFlow) -> None:
        """Note where positions lie in a tensor to come, which may be without data."""
        self.layer.expect_positions(x, flow)

    def rescale(self, scale: float) -> None:
        """Take outputs for `scale` times what is to be told of them, from now on."""
        self.layer.rescale(scale)
