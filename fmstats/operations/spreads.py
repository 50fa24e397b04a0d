"""A spread tells which positions of the inputs of a model lie where in a tensor that it makes.

The numbers of the positions of the inputs (a mask, or groups) are a tensor, the root. Of a tensor
that a model makes, a part of a spread is the root as it lies there: of the shape of that tensor,
with a stride of 0 along dims that have nothing to do with positions, as channels. What moves the
dims of a tensor moves those of a part: no copy is made, and no element of the root is read.

Where a copy has to be made (as for windows that are rolled), it is a root of its own, which the
numbers of another pass give again: so a layer remembers a `Layout` and needs no operation to be
followed. Only where operations take other tensors, such as indices, is that impossible.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """A layout tells how a root lies in a tensor.

    Attributes:
        key: of the root.
        sizes: of the tensor.
        strides: in elements of the root, which is contiguous; 0 along dims without positions.
        offset: of the first element.
    """

    key: Hashable
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int


@dataclass(frozen=True)
class Arrangement:
    """An arrangement tells all that the numbers of a tensor depend on, but those of the roots.

    Attributes:
        layouts: of the parts of its spread.
        kind: of the numbers of the pass.
        device: of the tensor.
    """

    layouts: tuple[Layout, ...]
    kind: tuple[Hashable, ...]
    device: torch.device


@dataclass(frozen=True)
class Derived:
    """What gives a root: a function of another one, as it lies in some tensor."""

    function: Callable[..., Tensor]
    of: Layout
    args: tuple[Hashable, ...]


@dataclass(frozen=True, eq=False)
class Unrepeatable:
    """The key of a root that nothing can give again, since operations took other tensors."""

    of: Hashable


@dataclass(frozen=True, eq=False)
class Part:
    """A part of a spread is one root as it lies in a tensor.

    Attributes:
        key: of the root.
        view: bool or uint8, of the shape of the tensor.
    """

    key: Hashable
    view: Tensor

    def varies(self, dim: int) -> bool:
        """Tell whether positions are told apart along a dim."""
        return self.view.shape[dim] > 1 and self.view.stride(dim) != 0

    @property
    def varied(self) -> set[int]:
        """Return the dims along which positions are told apart."""
        return {dim for dim in range(self.view.dim()) if self.varies(dim)}

    @property
    def strides(self) -> tuple[int, ...]:
        """Return the strides of the view, 0 along dims without positions."""
        view = self.view
        return tuple(view.stride(dim) if self.varies(dim) else 0 for dim in range(view.dim()))

    def small(self) -> Part:
        """Return the part with size 1 along the dims without positions."""
        view = self.view
        for dim in range(view.dim()):
            if not self.varies(dim) and view.shape[dim] > 1:
                view = view.narrow(dim, 0, 1)
        return Part(self.key, view)

    def fitted(self, shape: Sequence[int]) -> Part | None:
        """Return the part of a tensor of another shape, with the same dims.

        None if positions are told apart along one that has another size.
        """
        if self.view.dim() != len(shape):
            return None
        view = self.view
        for dim, size in enumerate(shape):
            if view.shape[dim] != size:
                if self.varies(dim) or view.shape[dim] == 0:
                    return None
                view = view.narrow(dim, 0, 1)
        return Part(self.key, view.expand(tuple(shape)))


GROUPS = "(groups)"  # the key of the given root that tells groups: all others are masks

# The positions of a tensor count where all parts of its spread say so.
Spread = tuple[Part, ...]

_MOST_PARTS = 4


class Numbers:
    """The numbers of the positions of one forward pass.

    Args:
        given: a root by its key: contiguous, bool or uint8, 0 for positions that do not count.
        windows: whether convolutions along time carry masks on, see `windows.py`.

    Attributes:
        sizes: what tells them from the numbers of other passes, but for their values.
        followed: whether the operations of the pass are followed.
    """

    def __init__(self, given: Mapping[Hashable, Tensor], windows: bool = False) -> None:
        self.given, self.windows = dict(given), windows
        self._roots = dict(given)
        self.sizes = self.kind(by_size=True)
        self.followed = False
        # By the ids of arrangements, which are kept; their hashes take long.
        self._arranged: dict[int, tuple[Arrangement, Tensor | None]] = {}
        self._copies: dict[Hashable, Tensor] = {}

    def kind(self, by_size: bool) -> tuple[Hashable, ...]:
        """Return what tells passes apart by their numbers, and by the sizes of these if asked."""
        return tuple(
            (key, tuple(root.shape) if by_size else root.dim()) for key, root in self.given.items()
        )

    def root(self, key: Hashable) -> Tensor | None:
        """Return a root by its key; None if this pass has none that could give it."""
        found = self._roots.get(key)
        if found is None and isinstance(key, Derived):
            view = self.view(key.of)
            if view is not None:
                found = self._roots[key] = key.function(view, *key.args).contiguous()
        return found

    def view(self, layout: Layout) -> Tensor | None:
        """Return a root as it lies in a tensor; None if this pass has no such root."""
        root = self.root(layout.key)
        if root is None:
            return None
        offset = layout.offset + root.storage_offset()
        return root.as_strided(layout.sizes, layout.strides, offset)

    def layout_of(self, part: Part) -> Layout | None:
        """Return how a root lies in a tensor; None if no other pass could have the same."""
        if isinstance(part.key, Unrepeatable):
            return None
        view, root = part.view, self._roots[part.key]
        offset = int(view.storage_offset() - root.storage_offset())
        return Layout(part.key, tuple(view.shape), part.strides, offset)

    def spread(self, layouts: Sequence[Layout]) -> Spread | None:
        """Return the parts that lie as told; None if this pass lacks a root of one."""
        views = [(layout.key, self.view(layout)) for layout in layouts]
        parts = tuple(Part(key, view) for key, view in views if view is not None)
        return parts if len(parts) == len(layouts) else None

    def arrange(self, spread: Spread, device: torch.device) -> Arrangement | None:
        """Return how a tensor with a spread is arranged; None if no other pass can have it so."""
        layouts = tuple(map(self.layout_of, spread))
        known = tuple(layout for layout in layouts if layout is not None)
        return Arrangement(known, self.sizes, device) if len(known) == len(layouts) else None

    def combined(self, spread: Spread, device: torch.device) -> Tensor:
        """Return one number for each position: its group where all parts of a spread count, else 0.

        Args:
            spread: of one part or more.
            device: where they are to be.

        Returns:
            bool or uint8 with the dims of the tensor, of size 1 along those without positions.
        """
        parts = [part.small() for part in spread]
        views = [self._on(part, device) for part in parts]
        return views[0] if len(parts) == 1 else _combine(views, parts)

    def arranged(self, arrangement: Arrangement) -> Tensor | None:
        """Return the numbers of tensors that are arranged so, as `combined`, made once a pass.

        None if those of this pass are of another kind.
        """
        known = id(arrangement)
        found = self._arranged.get(known)
        if found is not None:
            return found[1]
        spread = self.spread(arrangement.layouts) if arrangement.kind == self.sizes else None
        numbers = None if spread is None else self.combined(spread, arrangement.device)
        self._arranged[known] = arrangement, numbers
        return numbers

    def _on(self, part: Part, device: torch.device) -> Tensor:
        """Return the view of a part on a device, to which each root is copied once."""
        if part.view.device == device:
            return part.view
        layout = self.layout_of(part)
        if layout is None:
            return part.view.to(device)
        if (layout.key, device) not in self._copies:
            self._copies[layout.key, device] = self._roots[layout.key].to(device, non_blocking=True)
        root = self._copies[layout.key, device]
        return root.as_strided(layout.sizes, layout.strides, layout.offset)

    def is_mask(self, key: Hashable) -> bool:
        """Tell whether a root is of a mask, or made of one: others are of groups."""
        return origin_of(key) != GROUPS

    def moved(self, part: Part, view: Tensor) -> Part:
        """Return a part whose `view` is one of its root, or a copy that other tensors decided on.

        Args:
            part: what was moved.
            view: where it is now.
        """
        if _shares_memory(view, self._roots[part.key]):
            return Part(part.key, view)
        key = Unrepeatable(part.key)
        self._roots[key] = view
        return Part(key, view)

    def derived(self, part: Part, function: Callable[..., Tensor], *args: Hashable) -> Part:
        """Return the part that a function makes of another.

        Args:
            part: its view is the first argument.
            function: the same object in each pass; it may return a view or a copy.
            args: its other arguments.
        """
        layout = self.layout_of(part)
        view = function(part.view, *args)
        if layout is None or _shares_memory(view, self._roots[part.key]):
            return self.moved(part, view)
        key = Derived(function, layout, args)
        self._roots.setdefault(key, view.contiguous())
        return Part(key, self._roots[key])


def _shares_memory(view: Tensor, root: Tensor) -> bool:
    # Not by the address of data, which sketches of tensors have none.
    return bool(view.untyped_storage()._cdata == root.untyped_storage()._cdata)


def origin_of(key: Hashable) -> Hashable:
    """Return the key of the given root that one was made of."""
    while isinstance(key, (Derived, Unrepeatable)):
        key = key.of.key if isinstance(key, Derived) else key.of
    return key


def join(parts: Sequence[Part]) -> Spread | None:
    """Return the spread of what is made of tensors with these parts.

    Each part is kept once. Where positions come the straight way from an input, those of the same
    mask that come through copies are left aside along the same dims, as through the experts beside
    a residual connection: these ways lead to the same positions, or mix them. None if there are no
    parts, or more than are kept: without one of them too much would count.
    """
    found: dict[Any, Part] = {}
    straight = [part for part in parts if origin_of(part.key) == part.key]
    for part in parts:
        origin, dims = origin_of(part.key), part.varied
        if origin == part.key or not any(
            origin == other.key and dims <= other.varied for other in straight
        ):
            found.setdefault((part.key, part.strides, part.view.storage_offset()), part)
    return tuple(found.values()) if 0 < len(found) <= _MOST_PARTS else None


def _combine(views: Sequence[Tensor], parts: Sequence[Part]) -> Tensor:
    groups = [v for v, part in zip(views, parts, strict=True) if origin_of(part.key) == GROUPS]
    counts = views[0] != 0
    for view in views[1:]:
        counts = counts & (view != 0)
    return torch.where(counts, groups[0], torch.zeros_like(groups[0])) if groups else counts
