"""`PositionCall` is a call of an operation, as the rules see it that carry positions on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fmstats.operations.calls import Call
from fmstats.operations.numbers import Numbers
from fmstats.operations.spreads import Part, Spread, join, origin_of


class PositionCall:
    """A call of an operation, as these rules see it.

    Args:
        call: as the rules of channels see it.
        function: that was called.
        spread_of: tells the spread of a tensor: None if nothing is known of it, and no part if it
            is made of positions that were lost.
        numbers: of the pass.
    """

    def __init__(
        self,
        call: Call,
        function: Callable[..., Any],
        spread_of: Callable[[Tensor], Spread | None],
        numbers: Numbers,
    ) -> None:
        self.call, self.function, self.numbers = call, function, numbers
        self._spread_of = spread_of

    def spread(self, x: object) -> Spread:
        """Return the spread of a tensor; no part if it has none, or is no tensor."""
        return (self._spread_of(x) or ()) if isinstance(x, Tensor) else ()

    def lost(self, x: object) -> bool:
        """Tell whether a tensor has positions, of which nobody knows where they are."""
        return isinstance(x, Tensor) and self._spread_of(x) == ()

    def again(self, view: Tensor) -> Tensor:
        """Call the function with a view in the place of its first tensor.

        Return the result of the same place as that which is asked for.
        """
        args, kwargs, first = list(self.call.args), dict(self.call.kwargs), self.call.first
        view = view.detach()  # what works in place changes this object alone
        place = next((i for i, value in enumerate(args) if value is first), None)
        if place is not None:
            args[place] = view
        else:
            kwargs[next(name for name, value in kwargs.items() if value is first)] = view
        made = self.function(*args, **kwargs)
        results = [made] if isinstance(made, Tensor) else made
        return [x for x in results if isinstance(x, Tensor)][self.call.place]


PositionRule = Callable[[PositionCall, Tensor], "Spread | None"]


def carried(spread: Spread, out: Tensor, carry: Callable[[Part], Part | None]) -> Spread | None:
    """Return the spread of a result, given what becomes of each part; None if one is lost."""
    parts: list[Part | None] = []
    for part in spread:
        found = carry(part)
        parts.append(None if found is None else found.fitted(out.shape))
    return join_all(parts)


def join_all(parts: Sequence[Part | None]) -> Spread | None:
    """Join parts; None if one of them is lost."""
    known = [part for part in parts if part is not None]
    return join(known) if len(known) == len(parts) else None


def fitted_to(spread: Spread, out: Tensor) -> Spread | None:
    """Return the parts of a tensor of another shape; of a root that lost one, all are lost."""
    fitted = [part.fitted(out.shape) for part in spread]
    lost = {origin_of(part.key) for part, found in zip(spread, fitted, strict=True) if not found}
    return join([part for part in fitted if part and origin_of(part.key) not in lost])


def unsqueezed(spread: Spread, out: Tensor) -> Spread | None:
    """Return the spread of what has dims behind those of a tensor with this spread."""
    parts = []
    for part in spread:
        view = part.view[(..., *(None,) * (out.dim() - part.view.dim()))]
        try:
            parts.append(Part(part.key, view.expand(out.shape)))
        except RuntimeError:
            return None
    return join(parts)


def any_along(numbers: Numbers, part: Part, dims: Sequence[int]) -> Part | None:
    """Return a part with size 1 along dims, where positions count if any along them did."""
    varied = tuple(dim % part.view.dim() for dim in dims if part.varies(dim % part.view.dim()))
    if varied:
        if not numbers.is_mask(part.key):
            return None  # of several groups
        part = numbers.derived(part.small(), torch.amax, varied, True)
    view = part.view
    for dim in dims:
        view = view.narrow(dim, 0, min(1, view.shape[dim]))
    return Part(part.key, view)


def without(numbers: Numbers, spread: Spread, dim: int, out: Tensor) -> list[Part]:
    """Return the parts of a result that a dim is summed away for.

    Those along which it tells positions apart are left out, unless there are no others: then what
    remains counts where any position did.
    """
    kept = [part for part in spread if not part.varies(dim % part.view.dim())]
    parts = kept or [part for part in (any_along(numbers, part, (dim,)) for part in spread) if part]
    found = []
    for part in parts:
        view = part.view
        if not part.varies(dim % view.dim()) and view.shape[dim] > 0:
            view = view.narrow(dim, 0, 1)
        try:
            found.append(Part(part.key, view.expand(out.shape)))
        except RuntimeError:
            return []
    return found
