"""Tensors for the law and parity tests: every layout, dtype and kind of data, from a seed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import Tensor


def _with(x: Tensor, *values: float) -> Tensor:
    """Put each value at about 5 % of the places."""
    for value in values:
        x[torch.rand(x.shape) < 0.05] = value
    return x


# Each gives float64 data of a shape, to be rounded to a dtype.
KINDS: dict[str, Callable[[tuple[int, ...]], Tensor]] = {
    "normal": torch.randn,
    "relu": lambda shape: torch.randn(shape).relu(),
    "constant": lambda shape: torch.full(shape, 0.3),
    "zero": torch.zeros,
    "negative zero": lambda shape: _with(torch.zeros(shape), -0.0, 1.0),
    "two values": lambda shape: torch.where(torch.rand(shape) < 0.5, 1.7, 0.3),
    "large mean": lambda shape: 1e3 + torch.randn(shape),
    "outlier first": lambda shape: torch.cat(
        [torch.full((1,), 300.0), torch.randn(math.prod(shape)) + 1]
    )[: math.prod(shape)].view(shape),
    "subnormal": lambda shape: torch.randn(shape) * 1e-40,
    "tiny": lambda shape: torch.randn(shape) * 1e-20,
    "huge": lambda shape: torch.randn(shape) * 1e37,
    "nan and inf": lambda shape: _with(torch.randn(shape), math.nan, math.inf, -math.inf),
    "all nan": lambda shape: torch.full(shape, math.nan),
    "all inf": lambda shape: _with(torch.full(shape, math.inf), -math.inf),
}


def make(kind: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Data of a kind, contiguous. Small floats get what their range can hold."""
    previous = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        return KINDS[kind](shape).to(dtype)
    finally:
        torch.set_default_dtype(previous)


# Each rearranges a tensor whose channels are in dim 1, and says where they are then.
LAYOUTS: dict[str, Callable[[Tensor], tuple[Tensor, int]]] = {
    "contiguous": lambda x: (x, 1),
    "channels last": lambda x: (x.movedim(1, -1).contiguous().movedim(-1, 1), 1),
    "tokens": lambda x: (x.movedim(1, -1).contiguous(), x.dim() - 1),
    "transposed": lambda x: (x.transpose(0, -1), 1 if x.dim() > 2 else 0),
    "every other": lambda x: (x[..., ::2] if x.dim() > 2 else x[::2], 1),
    "cropped channels last": lambda x: (
        (x.movedim(1, -1).contiguous().movedim(-1, 1)[..., 1:] if x.dim() > 2 else x[1:]),
        1,
    ),
    "offset": lambda x: (x[1:], 1),
    "expanded": lambda x: (x[:1].expand(3 * len(x[:1]), *x.shape[1:]), 1),
    "one channel": lambda x: (x[:, :1], 1),
}


@dataclass(frozen=True)
class Sample:
    """A tensor and where its channels are."""

    x: Tensor
    channel_dim: int


@st.composite
def samples(draw: st.DrawFn, dtype: torch.dtype, layout: str, largest: int = 40) -> Sample:
    """Any kind of data in any shape of 2 to 5 dims, empty ones included."""
    dims = draw(st.integers(2, 5))
    most = {2: largest, 3: largest, 4: 12, 5: 6}[dims]
    shape = [draw(st.integers(0, most)) for _ in range(dims)]
    shape[1] = draw(st.sampled_from([1, 2, 3, 4, 7, 8, 9, 16, 17, 33, 70]))
    torch.manual_seed(draw(st.integers(0, 2**16)))
    kind = draw(st.sampled_from(sorted(KINDS)))
    x, dim = LAYOUTS[layout](make(kind, tuple(shape), dtype))
    return Sample(x, dim)
