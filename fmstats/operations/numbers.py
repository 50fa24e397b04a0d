"""`Numbers` holds the numbers of the positions of a pass, and gives them as they lie in tensors."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence

import torch
from torch import Tensor

from fmstats.operations.spreads import (
    GROUPS,
    Arrangement,
    Derived,
    Layout,
    Part,
    Spread,
    Unrepeatable,
    origin_of,
)


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


def _combine(views: Sequence[Tensor], parts: Sequence[Part]) -> Tensor:
    groups = [v for v, part in zip(views, parts, strict=True) if origin_of(part.key) == GROUPS]
    counts = views[0] != 0
    for view in views[1:]:
        counts = counts & (view != 0)
    return torch.where(counts, groups[0], torch.zeros_like(groups[0])) if groups else counts
