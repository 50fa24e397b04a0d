"""`LayerPositions` tells which positions of a layer's tensors count, in the pass of this thread."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from fmstats.errors import FmstatsError
from fmstats.operations.position_finder import NOT_FOLLOWED, PositionFinder
from fmstats.operations.spreads import GROUPS, Spread
from fmstats.output.tables import format_plural
from fmstats.statistic.view import Positions, View, grouped_view_of
from fmstats.tracking.gates import Gate

MISMATCHES = ("skip", "count", "raise")


class MismatchError(FmstatsError):
    """A mask or groups do not fit a layer, and the user asked for the error."""


class Placed(NamedTuple):
    """A tensor as channels x positions, with those that count.

    Attributes:
        room: for how many groups there is to be a state; 0 where there is a mask alone.
    """

    view: View
    positions: Positions
    room: int


class LayerPositions:
    """The positions of one layer.

    Args:
        gate: of the tracker.
        mismatch: what is done with a tensor that a mask does not fit: "skip", "count" or "raise".
    """

    def __init__(self, gate: Gate, mismatch: str) -> None:
        self._gate, self._mismatch = gate, mismatch
        self._finder = PositionFinder()
        self._unfit, self._why = 0, ""

    def spread_of(self, x: Tensor) -> Spread | None:
        """Return where positions lie in a tensor, if this pass is followed."""
        watch = self._gate.watch
        flow = None if watch is None or watch.flow is None else watch.flow.positions
        return None if flow is None else flow.spread_of(x)

    def place(self, x: Tensor, dim: int | None, spread: Spread | None) -> Placed | str | None:
        """Return which positions of a tensor count, else why that is not known; None: all do.

        Args:
            x: the tensor.
            dim: of its channels; None where all is one channel.
            spread: where positions lie in it, if that is known.
        """
        reader = self._gate.positions
        if reader is None:
            return None
        flow = reader.current
        if flow is None or isinstance(flow, str):
            return flow
        watch = self._gate.watch
        followed = watch is not None and watch.flow is not None
        if spread and spread[0].view.shape != x.shape:
            return "is a part of what the mask covers, as of a DTensor"
        numbers = self._finder.find(x, spread, flow.numbers, followed)
        if watch is not None:
            if self._finder.by_pass:
                watch.follow_all()
            if self._finder.by_size:
                watch.tell_sizes_apart()
            if numbers == NOT_FOLLOWED:
                watch.follow_again()
        if isinstance(numbers, str):
            return numbers
        if dim is not None and numbers.shape[dim] > 1:
            return f"has its channels in dim {dim}, along which the mask tells positions apart"
        room = reader.count_groups(x.device) if GROUPS in flow.numbers.given else 0
        return Placed(*grouped_view_of(x, dim, numbers, max(1, room)), room)

    def refuses(self, why: str) -> bool:
        """Note a tensor that the mask does not fit; return whether it is left out.

        Raises:
            MismatchError: it is neither left out nor counted as a whole.
        """
        if self._mismatch == "raise":
            raise MismatchError(
                f"{why}; mask_mismatch='skip' leaves such tensors out, 'count' counts all of them"
            )
        self._unfit, self._why = self._unfit + 1, why
        return self._mismatch == "skip"

    def describe(self) -> str | None:
        """Tell which tensors the mask did not fit, and why not the last; None if it fitted all."""
        if not self._unfit:
            return None
        done = "left out" if self._mismatch == "skip" else "counted whole"
        return f"{format_plural(self._unfit, 'tensor')} {done}: {self._why}"

    def reset(self) -> None:
        """Count no tensors left out any more."""
        self._unfit = 0
