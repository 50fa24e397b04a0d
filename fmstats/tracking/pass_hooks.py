"""These hooks of the tracked model begin and end its forward passes."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import torch
import torch.nn as nn
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from fmstats.graph_ops.targets import PassShortcut
from fmstats.operations.position_flow import PositionFlow
from fmstats.operations.watching import Watch, count_calls
from fmstats.tracking import compiled as graph
from fmstats.tracking.aside import aside
from fmstats.tracking.gates import Gate
from fmstats.tracking.hooks import NO_BACKWARD_PASS, Hook, backward_pass, is_traced
from fmstats.tracking.nonfinite import NonFiniteWatch
from fmstats.tracking.per_call import PerCall
from fmstats.tracking.sampling import Every, Sampling, clock


class PassHook(Hook):
    """This forward pre-hook of the tracked model counts and samples its passes.

    It is registered with_kwargs.

    Attributes:
        sampling: which passes are taken.
    """

    def __init__(
        self,
        gate: Gate,
        sampling: Sampling,
        per_call: Sequence[PerCall] | None,
        when: str = "always",
        non_finite: NonFiniteWatch | None = None,
    ) -> None:
        super().__init__()
        self._gate, self.sampling, self._per_call = gate, sampling, per_call
        self._when, self._non_finite = when, non_finite
        self._lock = threading.Lock()
        self._thread = threading.local()  # each thread's passes begin and end for themselves
        self._counts = np.zeros(2, np.int64)  # passes, measured
        self._shortcut: PassShortcut | None = None
        self._end: RemovableHandle | None = None

    def __call__(
        self,
        module: nn.Module,
        args: Sequence[object],
        kwargs: Mapping[str, object] = MappingProxyType({}),
    ) -> None:
        """Begin a forward pass."""
        if is_traced():
            graph.mark_pass_boundary(self.number, module.training)
            return
        self._begin(module.training)
        watch, reader = self._gate.watch, self._gate.positions
        if watch is None or not self._gate.open or torch._C._is_tracing():
            return
        if backward_pass() != NO_BACKWARD_PASS:
            return  # of activation checkpointing, which has run it before
        flow, asks = None, reader is not None and reader.asks
        if reader is not None and asks and count_calls(module) <= 1:  # not one within another
            with aside():
                flow = reader.begin(args, kwargs)
        if watch.begin(module, args, kwargs, flow) or asks:
            with self._lock:  # a second one would stay when the first goes
                if self._end is None:
                    end = WatchEndHook(self, watch)
                    self._end = module.register_forward_hook(end, always_call=True)
        elif not watch.goes_on:
            self.remove_end()

    def observe(self, x: Tensor | None, training: bool) -> None:
        """Begin a forward pass, in a graph."""
        if self._gate.positions is not None:
            self._gate.positions.miss("came in a compiled graph, where no mask is followed")
        self._begin(training)

    def _begin(self, training: bool) -> None:
        if self._gate.closed or backward_pass() != NO_BACKWARD_PASS:
            return
        left_out = self._when != "always" and training != (self._when == "train")
        if left_out or torch._C._is_tracing():
            if self._gate.sampled or self._gate.captured:
                self._gate.set(sampled=False, captured=False)
            return
        if self._gate.clocks.captures():
            self._capture()
            return
        if self._gate.captured:
            self._gate.set(captured=False)
        if self._gate.paused:
            return
        taken = self.sampling.take()
        if taken != self._gate.sampled:
            self._gate.set(sampled=taken)
        self._counts += (1, taken)
        self._gate.clocks.begin_pass(taken)
        if self._non_finite is not None:
            self._non_finite.begin_pass()
        for layer in self._per_call or ():
            layer.begin_pass()
        self._thread.began = clock() if self.sampling.timed else None

    def begin_positions(self, args: Sequence[object], kwargs: Mapping[str, object]) -> None:
        """Read the positions of the inputs of a pass, in a graph."""
        reader = self._gate.positions
        if reader is not None and self._gate.open and backward_pass() == NO_BACKWARD_PASS:
            with aside():
                reader.begin(args, kwargs)

    def sketch_positions(
        self, args: Sequence[object], kwargs: Mapping[str, object]
    ) -> PositionFlow | None:
        """Return where the positions of a graph are in its inputs, while it is made."""
        return None if self._gate.positions is None else self._gate.positions.sketch(args, kwargs)

    def owns(self, clock: Tensor) -> bool:
        """Tell whether a clock is of its tracker."""
        return self._gate.clocks.own(clock)

    def show_time(self, tokens: Sequence[Tensor]) -> None:
        """Set the clocks that a graph has, which may be copies, to the time of now."""
        self._gate.clocks.show_time(tokens)

    def shorten(self) -> None:
        """Leave passes of graphs to native code, which does what `observe` does, if it can.

        It counts; it returns to `observe` whenever the gate is to change or a device has a clock.
        """
        reader = self._gate.positions
        if self._non_finite is not None or self._per_call is not None:
            return
        if reader is not None and reader.asks:
            return
        with self._lock:  # a second one of this number would take the first along when it goes
            if self._shortcut is None and isinstance(self.sampling, Every):
                clocks = self._gate.clocks
                words = {"gate": self._gate.words, "counts": self._counts, "clocks": clocks.words}
                words["first_pass"] = clocks.host.on_host("first_pass")
                words["asked"] = self.sampling.asked
                self._shortcut = PassShortcut(self.number, self.sampling.k, self._when, words)

    def _capture(self) -> None:
        """Begin a forward pass that is not run now, but captured by a graph."""
        self._gate.clocks.capture_pass(self.sampling.every_now())
        self._gate.set(captured=True)
        for layer in self._per_call or ():
            layer.begin_pass()
        self._thread.began = None

    def end(self) -> None:
        """End a forward pass of this thread, for a budget."""
        began = getattr(self._thread, "began", None)
        if began is not None:
            self.sampling.end(clock() - began)
            self._thread.began = None

    def end_positions(self) -> bool:
        """End a pass whose positions were asked for; return whether those of the next are."""
        reader = self._gate.positions
        if reader is None:
            return False
        reader.end()
        return reader.asks

    def remove(self) -> None:
        """Watch no pass any more; may be called twice."""
        if self._gate.watch is not None:
            self._gate.watch.close()
        self.remove_end()

    def remove_end(self) -> None:
        """Take the hook away that ends the watch of a pass."""
        if self._end is not None:
            self._end.remove()
            self._end = None

    def reset(self) -> None:
        """Count from 0; the clocks go on."""
        self._counts[:] = 0
        self.sampling.reset()
        self._gate.clocks.forget_replays()
        self._gate.set(sampled=True)

    @property
    def passes(self) -> int:
        """Return the forward passes begun in the modes asked for."""
        return int(self._counts[0])

    @property
    def measured(self) -> int:
        """Return those of them that hooks were to measure."""
        return int(self._counts[1])

    def count(self) -> tuple[int, int]:
        """Count forward passes and those measured, replayed ones too; waits for devices."""
        replayed, measured = self._gate.clocks.count_replays()
        return self.passes + replayed, self.measured + measured

    @property
    def counts(self) -> tuple[int, int, int]:
        """Return what was counted so far: passes, those measured, and those of the clocks."""
        return self.passes, self.measured, self._gate.clocks.passes

    def go_on_from(self, passes: int, measured: int, time: int) -> None:
        """Count on from what `counts` was."""
        self._counts[:] = passes, measured
        self._gate.clocks.set_pass(time)


class AskingPassHook(PassHook):
    """This hook of a pass also hands the inputs to a graph, for a mask or groups."""

    def __call__(
        self,
        module: nn.Module,
        args: Sequence[object],
        kwargs: Mapping[str, object] = MappingProxyType({}),
    ) -> None:
        """Begin a forward pass."""
        if is_traced():
            graph.mark_pass_boundary(self.number, module.training)
            graph.begin_positions(args, kwargs, self.number)
        else:
            super().__call__(module, args, kwargs)


class EndHook(Hook):
    """This forward hook of the tracked model ends its passes, for a budget."""

    def __init__(self, passes: PassHook) -> None:
        super().__init__()
        self._passes = passes

    def __call__(self, module: nn.Module, args: object, output: object) -> None:
        """End a forward pass."""
        if is_traced():
            graph.mark_pass_boundary(self.number, module.training)
        else:
            self._passes.end()

    def owns(self, clock: Tensor) -> bool:
        """Tell whether a clock is of its tracker."""
        return self._passes.owns(clock)

    def observe(self, x: Tensor | None, training: bool) -> None:
        """End a forward pass, in a graph."""
        self._passes.end()


class WatchEndHook(Hook):
    """This forward hook of the tracked model ends the watch of a pass, also of one that failed."""

    def __init__(self, passes: PassHook, watch: Watch) -> None:
        super().__init__()
        self._passes, self._watch = passes, watch

    def __call__(self, module: nn.Module, args: object, output: object) -> None:
        """End the watch of this thread's pass."""
        if is_traced() or count_calls(module) > 1:
            return
        self._watch.end(module, output)
        # Where the pass failed, there is no output, and torch is iterating over the hooks.
        if not self._passes.end_positions() and output is not None and not self._watch.goes_on:
            self._passes.remove_end()

    def observe(self, x: Tensor | None, training: bool) -> None:
        """Do nothing: in a graph nothing is watched."""


for _kind in (PassHook, AskingPassHook, EndHook, WatchEndHook):
    graph.run_as_is(_kind.__call__)
