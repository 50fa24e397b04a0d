"""These rules are of operations that move positions: the same is done with a spread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fmstats.operations.numbers import Numbers
from fmstats.operations.position_calls import (
    PositionCall,
    carried,
    fitted_to,
    join_all,
    unsqueezed,
)
from fmstats.operations.position_copies import before_copy
from fmstats.operations.spreads import Part, Spread, join, origin_of


def move(asked: PositionCall, out: Tensor) -> Spread | None:
    """Follow what moves the elements of its first tensor, by doing the same."""
    parts = []
    for part in asked.spread(asked.call.first):
        parts.append(asked.numbers.moved(part, asked.again(part.view)))
    return join(parts)


def pack(asked: PositionCall, out: Tensor) -> Spread | None:
    """Follow what lays sequences of several lengths one behind the other, and back."""

    def carry(part: Part) -> Part | None:
        if part.varies(part.view.dim() - 1):
            return None
        return asked.numbers.moved(part, asked.again(part.view[..., :1].contiguous()))

    return carried(asked.spread(asked.call.first), out, carry)


def repeat(asked: PositionCall, out: Tensor) -> Spread | None:
    """Follow repeat and tile, which lay copies of a tensor side by side."""
    factors = asked.call.sizes(1, "repeats", "dims")

    def carry(part: Part) -> Part:
        dims = part.view.dim()
        times = [1] * (dims - len(factors)) + factors
        new = len(times) - dims
        own = [n if d >= new and part.varies(d - new) else 1 for d, n in enumerate(times)]
        return asked.numbers.derived(part.small(), torch.tile, tuple(own))

    return carried(asked.spread(asked.call.first), out, carry)


def repeat_each(asked: PositionCall, out: Tensor) -> Spread | None:
    """Follow repeat_interleave, along a dim."""
    times, dim = asked.call.argument(1, "repeats"), asked.call.argument(2, "dim")
    if not isinstance(dim, int):
        return None

    def carry(part: Part) -> Part:
        if not part.varies(dim % part.view.dim()):
            return part
        small = part.small()
        if isinstance(times, int):
            return asked.numbers.derived(small, torch.repeat_interleave, times, dim)
        return asked.numbers.moved(small, small.view.repeat_interleave(times, dim))

    return carried(asked.spread(asked.call.first), out, carry)


def reshape(asked: PositionCall, out: Tensor) -> Spread | None:
    """Follow what reads a tensor in another shape."""
    parts = []
    for part in asked.spread(asked.call.first):
        if part.view.numel() != out.numel():  # as other numbers of other bytes
            return None
        found = _reshaped(part, tuple(out.shape), asked.numbers)
        parts.append(before_copy(found, asked.numbers))
    return join(parts)


def _reshaped(part: Part, shape: tuple[int, ...], numbers: Numbers) -> Part:
    view = part.view
    try:
        return Part(part.key, view.view(shape))
    except RuntimeError:  # joined dims, of which one tells positions apart: a copy
        kept = 0  # the last dims that stay and have no positions
        while (
            kept < min(view.dim(), len(shape)) - 1
            and view.shape[-1 - kept] == shape[-1 - kept]
            and not part.varies(view.dim() - 1 - kept)
        ):
            kept += 1
        index: Any = (..., *(slice(0, 1),) * kept)
        sizes = (*shape[: len(shape) - kept], *(1,) * kept)
        whole = numbers.derived(Part(part.key, view[index]), torch.reshape, sizes)
        return Part(whole.key, whole.view.expand(shape))


def index(asked: PositionCall, out: Tensor) -> Spread | None:
    """Follow x[...]; rows that are taken from a table lie where the indices lie."""
    table, rows = asked.call.first, asked.call.args[1]
    if not asked.spread(table):
        lone = isinstance(rows, Tensor) and rows.dtype not in (torch.bool, torch.uint8)
        return unsqueezed(asked.spread(rows), out) if lone and not asked.lost(table) else None
    given = rows if isinstance(rows, tuple) else (rows,)
    consumed = _count_consumed(given)

    def carry(part: Part) -> Part:
        view = part.view
        for dim in range(consumed or view.dim(), view.dim()):  # what is copied shall be small
            if not part.varies(dim) and view.shape[dim] > 0:
                view = view.narrow(dim, 0, 1)
        return asked.numbers.moved(part, view[rows])

    return carried(asked.spread(table), out, carry)


def _count_consumed(index: Sequence[Any]) -> int:
    """Count the dims that an index takes; 0 if that is not plain."""
    if any(part is Ellipsis or isinstance(part, bool) for part in index):
        return 0
    masks = (torch.bool, torch.uint8)
    return sum(
        part.dim() if isinstance(part, Tensor) and part.dtype in masks else part is not None
        for part in index
    )


def gather(asked: PositionCall, out: Tensor) -> Spread | None:
    """Follow what takes elements along one dim, by indices of all dims or of that one."""
    call = asked.call
    x, dim = call.first, call.argument(1, "dim")
    taken = call.argument(2, "index", call.kwargs.get("indices"))
    if call.name == "take_along_dim":
        taken, dim = call.argument(1, "indices"), call.argument(2, "dim")
    if not isinstance(taken, Tensor) or dim is None:
        return None
    dim %= x.dim()

    def carry(part: Part) -> Part:
        small = part.small().view
        view = small.expand([*small.shape[:dim], x.shape[dim], *small.shape[dim + 1 :]])
        if taken.dim() == 1 and call.name == "index_select":
            return asked.numbers.moved(part, view.index_select(dim, taken))
        rows = taken
        for d in range(x.dim()):  # one row stands for all, where indices are the same
            if d != dim and view.shape[d] == 1:
                if rows.stride(d) != 0 and rows.shape[d] > 1:
                    view = view.expand([*view.shape[:d], rows.shape[d], *view.shape[d + 1 :]])
                else:
                    rows = rows.narrow(d, 0, 1)
        sizes = [rows.shape[d] if d != dim else view.shape[d] for d in range(x.dim())]
        return asked.numbers.moved(part, view[tuple(map(slice, sizes))].gather(dim, rows))

    return carried(asked.spread(x), out, carry)


def concatenate(asked: PositionCall, out: Tensor) -> Spread | None:
    """Follow what lays tensors side by side; what has no positions counts among those that have."""
    call = asked.call
    # A cache of keys begins as an empty tensor of one dim.
    tensors = [x for x in call.tensors if x.dim() == out.dim()]
    if len(tensors) == 1:
        return asked.spread(tensors[0]) or None
    dim = call.argument(1, "dim", call.kwargs.get("axis", 0)) % out.dim()
    sizes = [x.shape[dim] for x in tensors]
    mixes = any(dim in (call.label(x) or ()) for x in tensors)
    return _side_by_side(asked, [asked.spread(x) for x in tensors], sizes, dim, out, mixes)


def stack(asked: PositionCall, out: Tensor) -> Spread | None:
    """Follow what lays tensors side by side along a new dim."""
    dim = asked.call.argument(1, "dim", 0) % out.dim()
    spreads = [
        tuple(Part(part.key, part.view.unsqueeze(dim)) for part in asked.spread(x))
        for x in asked.call.tensors
    ]
    return _side_by_side(asked, spreads, [1] * len(spreads), dim, out)


def _side_by_side(
    asked: PositionCall,
    spreads: Sequence[Spread],
    sizes: Sequence[int],
    dim: int,
    out: Tensor,
    mixes: bool = False,
) -> Spread | None:
    """Return the spread of tensors along a dim, each with its own spread and size.

    Where it holds channels (`mixes`), a position counts if it does in all of the tensors.
    """
    if any(map(asked.lost, asked.call.tensors)):
        # Where those of one are lost, the others tell all if no dim of what was given is missing.
        roots = asked.numbers.given
        spreads = [
            tuple(
                part
                for part in spread
                if not part.varies(dim) and len(part.varied) >= roots[origin_of(part.key)].dim()
            )
            for spread in spreads
        ]
    parts: list[Part | None] = []
    for key in dict.fromkeys(part.key for spread in spreads for part in spread):
        pieces = [[part for part in spread if part.key == key] for spread in spreads]
        known = [piece for piece in pieces if piece]
        places = {tuple((p.strides, p.view.storage_offset()) for p in piece) for piece in known}
        every = [part for piece in known for part in piece]
        if not any(part.varies(dim) for part in every) and (len(places) == 1 or mixes):
            parts += [Part(key, part.view.narrow(dim, 0, 1).expand(out.shape)) for part in every]
        elif asked.numbers.is_mask(key):
            laid = _laid([[p.small().view for p in piece] for piece in pieces], sizes, dim)
            parts.append(asked.numbers.moved(known[0][0], laid).fitted(out.shape))
        else:
            return None
    return join_all(parts)


def _laid(pieces: Sequence[Sequence[Tensor]], sizes: Sequence[int], dim: int) -> Tensor:
    """Return views side by side; those of one piece together, all count where there is none."""
    views = [view for piece in pieces for view in piece]
    shape = [max(view.shape[d] for view in views) for d in range(views[0].dim())]
    laid = []
    for piece, size in zip(pieces, sizes, strict=True):
        shape[dim] = size
        counts = torch.ones_like(views[0][(slice(0, 1),) * len(shape)])
        for view in piece:
            counts = counts & view
        laid.append(counts.expand(shape))
    return torch.cat(laid, dim)


def pad(asked: PositionCall, out: Tensor) -> Spread | None:
    """Follow padding, whose elements are at no position."""
    call = asked.call
    fitted = fitted_to(asked.spread(call.first), out)
    if fitted is not None:
        return fitted
    widths = tuple(call.argument(1, "pad"))
    mode = call.argument(2, "mode", "constant")
    if mode not in ("constant", 0, 0.0) and call.name == "pad":
        return None

    def carry(part: Part) -> Part:
        last = part.view.dim() - 1
        own = [width if part.varies(last - place // 2) else 0 for place, width in enumerate(widths)]
        return asked.numbers.derived(part.small(), F.pad, tuple(own))

    return carried(asked.spread(call.first), out, carry)


def roll(asked: PositionCall, out: Tensor) -> Spread | None:
    """Follow roll and flip, which move elements along dims."""
    call = asked.call
    dims = tuple(call.sizes(2 if call.name == "roll" else 1, "dims"))
    if not dims or any(not isinstance(dim, int) for dim in dims):
        return None

    def carry(part: Part) -> Part:
        if call.name == "flip":
            return asked.numbers.derived(part.small(), torch.flip, dims)
        by = call.argument(1, "shifts")
        shifts = (by,) if isinstance(by, int) else tuple(by)
        return asked.numbers.derived(part.small(), torch.roll, shifts, dims)

    return carried(asked.spread(call.first), out, carry)
