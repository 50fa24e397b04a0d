"""`PositionFinder` knows where the positions of the inputs lie in the tensors of one layer."""

from __future__ import annotations

from collections.abc import Collection, Hashable
from dataclasses import dataclass

from torch import Tensor

from fmstats.operations.numbers import Numbers
from fmstats.operations.spreads import GROUPS, Layout, Spread, origin_of

_MOST_SHAPES = 256  # that are remembered of a layer

# Why a tensor has no numbers, as what follows "its output".
UNKNOWN = "is made of no input that the {} covers, or in a way that mixes positions"
NOT_FOLLOWED = "came for the first time in a pass that was not followed"


@dataclass(frozen=True)
class _Axes:
    """How a given root lies in tensors of any size: whole dims of it, each in a dim of theirs.

    Attributes:
        key: of the root.
        dims: for each dim of the tensor, the dims of the root that it goes through, in order.
    """

    key: Hashable
    dims: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, layout: Layout, root: Tensor) -> _Axes | None:
        """Return what a layout says of tensors of other sizes; None if it is of its own alone."""
        if layout.offset != 0 or 1 in root.shape:  # which dim a size of 1 is, nothing tells
            return None
        runs = _runs(root)
        dims = []
        for size, stride in zip(layout.sizes, layout.strides, strict=True):
            run = () if stride == 0 else runs.get((size, stride))
            if run is None:
                return None
            dims.append(run)
        return cls(layout.key, tuple(dims))

    def layout(self, shape: tuple[int, ...], root: Tensor) -> Layout | None:
        """Return the layout of a tensor of a shape; None if it does not fit."""
        strides = []
        for dim, size in zip(self.dims, shape, strict=True):
            whole = 1
            for each in dim:
                whole *= root.shape[each]
            if dim and whole != size:
                return None
            strides.append(root.stride(dim[-1]) if dim else 0)
        return Layout(self.key, shape, tuple(strides), 0)


def _runs(root: Tensor) -> dict[tuple[int, int], tuple[int, ...]]:
    """Return the dims of a contiguous root that a dim of a size and a stride goes through."""
    runs: dict[tuple[int, int], tuple[int, ...]] = {}
    for last in range(root.dim()):
        size = 1
        for first in range(last, -1, -1):
            size *= root.shape[first]
            runs[size, root.stride(last)] = tuple(range(first, last + 1))
    return runs


class PositionFinder:
    """A finder answers for the tensors of one layer.

    Of a pass that was followed it takes where the positions went; of any other, where they went
    in a tensor of the same shape, or else in one of as many dims if whole dims of the inputs are
    whole dims of it.

    Attributes:
        by_size: whether passes of other sizes have to be followed for it.
        by_pass: whether each pass has to be followed for it.
    """

    def __init__(self) -> None:
        self.by_size = self.by_pass = False
        self._layouts: dict[Hashable, tuple[Layout, ...]] = {}
        self._axes: dict[int, tuple[_Axes, ...]] = {}
        self._unknown: dict[int, str] = {}  # why tensors of so many dims have no numbers

    def find(
        self,
        shape: tuple[int, ...],
        spread: Spread | None,
        numbers: Numbers,
        followed: bool,
        wanted: Collection[Hashable],
    ) -> Spread | str:
        """Return where the positions of a tensor lie in it, else why that is not known.

        Args:
            shape: of the tensor.
            spread: where they lie in it, if the pass is followed and it is known.
            numbers: of this pass.
            followed: whether this pass is.
            wanted: the keys of the given roots that are asked for: one mask of them will do.
        """
        if not wanted:
            return ()
        if followed:
            found = tuple(part for part in spread or () if origin_of(part.key) in wanted)
            missing = _missing(found, wanted)
            if missing:
                self._unknown[len(shape)] = why = UNKNOWN.format(missing)
                return why
            self._remember(shape, found, numbers)
            return found
        layouts = self._layouts.get((shape, numbers.sizes)) or self._stretched(shape, numbers)
        return numbers.spread(layouts) or self._unknown.get(len(shape), NOT_FOLLOWED)

    def _remember(self, shape: tuple[int, ...], spread: Spread, numbers: Numbers) -> None:
        layouts = tuple(map(numbers.layout_of, spread))
        known = tuple(layout for layout in layouts if layout is not None)
        if len(known) < len(layouts):
            self.by_pass = True
            return
        if len(self._layouts) < _MOST_SHAPES:
            self._layouts[shape, numbers.sizes] = known
        axes = []
        for layout in known:
            root = numbers.given.get(layout.key)
            found = None if root is None else _Axes.of(layout, root)
            if found is not None:
                axes.append(found)
        before = self._axes.get(len(shape))
        if len(axes) < len(known) or (before is not None and before != tuple(axes)):
            self.by_size = True
        else:
            self._axes[len(shape)] = tuple(axes)

    def _stretched(self, shape: tuple[int, ...], numbers: Numbers) -> tuple[Layout, ...]:
        """Return the layouts of a shape by those of other sizes; none if they do not fit."""
        if self.by_size:
            return ()
        found = []
        for axes in self._axes.get(len(shape), ()):
            root = numbers.given.get(axes.key)
            layout = None if root is None else axes.layout(shape, root)
            if layout is None:
                return ()
            found.append(layout)
        return tuple(found)


def _missing(spread: Spread, wanted: Collection[Hashable]) -> str:
    """Return what of the pass does not reach a tensor, "" if nothing."""
    found = {origin_of(part.key) for part in spread}
    if GROUPS in wanted and GROUPS not in found:
        return "tensor of groups"
    masks = {key for key in wanted if key != GROUPS}
    return "mask" if masks and not masks & found else ""
