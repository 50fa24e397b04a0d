"""`LayerPositions` tells which positions of a layer's tensors count, in the pass of this thread."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from fmstats.errors import FmstatsError
from fmstats.operations.numbers import Numbers
from fmstats.operations.position_finder import NOT_FOLLOWED, PositionFinder
from fmstats.operations.position_flow import PositionFlow
from fmstats.operations.spreads import GROUPS, Part, Spread
from fmstats.operations.watching import Watch
from fmstats.output.tables import format_plural
from fmstats.statistic.view import Positions, View, grouped_view_of
from fmstats.tracking.gates import Gate
from fmstats.tracking.layer_spec import LayerSpec
from fmstats.tracking.mask_choice import INPUTS
from fmstats.tracking.numbers_way import NumbersWay


class MismatchError(FmstatsError):
    """A mask or groups do not fit a layer, and the user asked for the error."""


class Placed(NamedTuple):
    """A tensor as channels x positions, with those that count.

    Attributes:
        room: for how many groups there is to be a state; 0 where there is a mask alone.
        way: to the numbers of the next tensor, if it comes to the same positions; else None.
    """

    view: View
    positions: Positions
    room: int
    way: NumbersWay | None


class LayerPositions:
    """The positions of one layer.

    Args:
        gate: of the tracker.
        spec: of the layer.
    """

    def __init__(self, gate: Gate, spec: LayerSpec) -> None:
        self._gate, self._spec = gate, spec
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
        told = self._told(x, dim, flow.numbers)
        if isinstance(told, str):
            return told
        given = flow.numbers.given
        wanted = set(given) if told is None else set(given) & {GROUPS}
        found = self._finder.find(tuple(x.shape), spread, flow.numbers, followed, wanted)
        if watch is not None:
            self._tell(watch, found)
        if isinstance(found, str):
            return found
        if told is not None:
            found = (told, *found)
            if followed and self._spec.of == "output":
                flow.note(x, found)
        room = reader.groups.room(x.device) if GROUPS in given else 0
        arrangement = flow.numbers.arrange(found, x.device)
        way = None if arrangement is None else reader.way(arrangement, room)
        # By the way that layers share, so that they are combined once a pass.
        numbers = None if way is None else flow.numbers.arranged(way.arrangement)
        if numbers is None:
            numbers = flow.numbers.combined(found, x.device)
        if dim is not None and numbers.shape[dim] > 1:
            return f"has its channels in dim {dim}, along which the mask tells positions apart"
        return Placed(*grouped_view_of(x, dim, numbers, max(1, room)), room, way)

    def expect(self, x: Tensor, flow: PositionFlow) -> None:
        """Note where positions lie in a tensor to come, of which `flow` knows."""
        spread = flow.spread_of(x)
        wanted = set(flow.numbers.given)
        sizes = tuple(map(int, x.shape))
        self._finder.find(sizes, spread, flow.numbers, followed=True, wanted=wanted)

    def _tell(self, watch: Watch, found: Spread | str) -> None:
        """Tell the watch which passes it has to follow for this layer."""
        if self._finder.by_pass:
            watch.follow_all()
        if self._finder.by_size:
            watch.tell_sizes_apart()
        if found == NOT_FOLLOWED:
            watch.follow_again()

    def _told(self, x: Tensor, dim: int | None, numbers: Numbers) -> Part | str | None:
        """Return the mask that the layer is told, as it lies in a tensor; None if it is told none.

        It lies along the dims of positions from the first on.
        """
        key = (INPUTS, self._spec.told_mask)
        root = None if self._spec.told_mask is None else numbers.given.get(key)
        if root is None:
            return None
        view, sizes = root, list(x.shape)
        if dim is not None:
            sizes.pop(dim)
        view = view[(..., *(None,) * max(0, len(sizes) - root.dim()))]
        if tuple(sizes[: root.dim()]) != tuple(root.shape):
            return f"is of shape {tuple(x.shape)}, {key[1]} of shape {tuple(root.shape)}"
        view = view if dim is None else view.unsqueeze(dim)
        return Part(key, view.expand(x.shape))

    def refuses(self, why: str) -> bool:
        """Note a tensor that the mask does not fit; return whether it is left out.

        Raises:
            MismatchError: it is neither left out nor counted as a whole.
        """
        if self._spec.mask_mismatch == "raise":
            raise MismatchError(
                f"{why}; mask_mismatch='skip' leaves such tensors out, 'count' counts all of them"
            )
        self._unfit, self._why = self._unfit + 1, why
        return self._spec.mask_mismatch == "skip"

    def describe(self) -> str | None:
        """Tell which tensors the mask did not fit, and why not the last; None if it fitted all."""
        if not self._unfit:
            return None
        done = "left out" if self._spec.mask_mismatch == "skip" else "counted whole"
        return f"{format_plural(self._unfit, 'tensor')} {done}: {self._why}"

    def reset(self) -> None:
        """Count no tensors left out any more."""
        self._unfit = 0
