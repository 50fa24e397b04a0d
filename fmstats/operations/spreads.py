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

from collections.abc import Callable, Hashable, Sequence
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
