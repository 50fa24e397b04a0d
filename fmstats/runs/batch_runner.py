"""Run batches through a tracked model; each counts whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from fmstats.errors import FmstatsError
from fmstats.runs.cost import Cost
from fmstats.runs.stopping import Interrupts
from fmstats.runs.undo import Undo
from fmstats.sources.batches import ModelInput
from fmstats.sources.entrypoints import describe_error
from fmstats.tracking.tracker import Tracker


@dataclass(frozen=True)
class Placement:
    """Says where inputs belong.

    Attributes:
        device, dtype: None to leave them.
        channels_last: whether 4-d inputs get that memory format.
    """

    device: torch.device | None
    dtype: torch.dtype | None
    channels_last: bool


class BatchRunner:
    """Runs batches through a tracked model, and takes back what a failed one has changed.

    Args:
        model: the tracked module.
        call: what runs it: itself, or compiled.
        passes: forward passes that were run before, in the same run.
        every: one pass in so many is measured, counted from the run's beginning.

    Attributes:
        passes: forward passes of the whole run.
        idle: how many of these ran while the tracker was paused.
        lost: the device has failed, and all that is on it.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        call: Callable[..., object],
        tracker: Tracker,
        placement: Placement,
        cost: Cost,
        interrupts: Interrupts,
        *,
        passes: int,
        every: int,
    ) -> None:
        self._model, self._call, self._tracker = model, call, tracker
        self._placement, self._cost, self._interrupts = placement, cost, interrupts
        self._undo = Undo(tracker)
        self.passes, self.idle = passes, 0
        self.lost = self._grad = False
        self._ahead = -passes % every  # of the next that is to be measured
        if self._ahead:
            tracker.pause()

    def run_batch(self, number: int, inputs: ModelInput) -> None:
        """Run one batch; undo what it changed if it fails.

        Raises:
            FmstatsError: the model or a layer's statistics refuse it.
        """
        self._undo.remember()
        try:
            with self._interrupts.breakable():
                self._try(inputs)
        except BaseException as error:
            self._take_back(error)
            if not isinstance(error, Exception):
                raise
            raise _refusal(number, inputs, error) from error

    def _try(self, inputs: ModelInput) -> None:
        try:
            self._run(inputs)
        except RuntimeError as error:
            # Some models differentiate within forward: forces are the gradient of an energy.
            if self._grad or "does not require grad" not in str(error):
                raise
            self._undo.take_back()
            self._grad = True
            try:
                self._run(inputs)
            except BaseException:
                self._grad = False
                raise

    def _run(self, inputs: ModelInput) -> None:
        where = self._placement
        placed = inputs.to(where.device, where.dtype, where.channels_last)
        # Not inference mode: tensors that a model keeps from it could never be trained with.
        with self._cost.batch(), torch.set_grad_enabled(self._grad):
            self._call(*placed.args, **placed.kwargs)
        self.passes += 1
        if self._ahead:
            self._ahead, self.idle = self._ahead - 1, self.idle + 1
            if not self._ahead:
                self._tracker.resume()

    def _take_back(self, cause: BaseException) -> None:
        try:
            device = self._placement.device
            if device is not None and device.type != "cpu":
                # After some errors a GPU is of no more use to its process: then this raises.
                torch.get_device_module(device).synchronize()
            self._undo.take_back()
        except Exception as error:
            self.lost = True
            raise FmstatsError(
                f"the device cannot be used any more after {describe_error(cause)}: "
                f"{describe_error(error)}"
            ) from error


def _refusal(number: int, inputs: ModelInput, error: Exception) -> FmstatsError:
    if isinstance(error, FmstatsError):
        return FmstatsError(f"batch {number + 1}: {error}")
    given = (*inputs.args, *inputs.kwargs.values())
    pixels = any(isinstance(x, torch.Tensor) and x.dtype is torch.uint8 for x in given)
    advice = "; uint8 numbers are not scaled: give floats, such as images / 255" if pixels else ""
    return FmstatsError(
        f"the model refused batch {number + 1}, {inputs.describe()}: {describe_error(error)}"
        f"{advice}"
    )
