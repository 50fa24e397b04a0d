"""A `View` reads any strided tensor as channels x positions, without a copy.

The statistic does not care in which order positions come, so they are sorted by stride and
adjacent ones joined: NCHW becomes (N, stride C*H*W), (H*W, stride 1); channels_last becomes
(N*H*W, stride C) under a channel stride of 1. Kernels walk the last dim.

`Positions` tells which group a position belongs to, if any. Its numbers are read by strides as
well, one for each dim of the view, so that no mask of the tensor's own size is ever made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fmstats.errors import FmstatsError


@dataclass(frozen=True)
class View:
    """A view reads a tensor as channels x positions; its strides are in elements.

    Attributes:
        channels: size of the channel dim.
        channel_stride: its stride.
        dims: (size, stride) of the positions, largest stride first, at least one.
    """

    channels: int
    channel_stride: int
    dims: tuple[tuple[int, int], ...]

    @property
    def positions(self) -> int:
        """Return the number of elements of one channel."""
        count = 1
        for size, _ in self.dims:
            count *= size
        return count


@dataclass(frozen=True, eq=False)
class Positions:
    """Positions are numbered by their groups; those of no group do not count.

    A state of `groups` groups has the channels of the view for each of them, one after the other:
    channel c of group k, which is 1 or more, is its channel (k - 1) * channels + c.

    Attributes:
        numbers: bool or uint8: the group of a position, from 1 on; 0 where it does not count. A
            mask is one group. It is not changed.
        strides: of the numbers, one for each dim of the view; 0 along a dim that they lack.
        groups: how many there are; no number is above.
    """

    numbers: Tensor
    strides: tuple[int, ...]
    groups: int = 1

    def of(self, view: View) -> Tensor:
        """Return the group of each position, uint8 of the view's sizes; it is no copy."""
        sizes = [size for size, _ in view.dims]
        offset = self.numbers.storage_offset()
        return self.numbers.view(torch.uint8).as_strided(sizes, self.strides, offset)


def resolve_dim(dim: int, shape: Sequence[int]) -> int:
    """Return `dim` as a number from 0 up.

    Raises:
        FmstatsError: the tensor has no such dim, or it is no whole number.
    """
    if type(dim) is not int:
        raise FmstatsError(f"channel_dim={dim!r}: give the number of a dim")
    if not -len(shape) <= dim < len(shape):
        raise FmstatsError(
            f"channel_dim={dim} is not a dim of a tensor of shape {tuple(shape)}: "
            + (f"choose from {-len(shape)} to {len(shape) - 1}" if len(shape) else "it has none")
        )
    return dim % len(shape)


def tell_dim(dim: int | None) -> str:
    """Tell which dim of a tensor holds its channels."""
    return "all as one channel" if dim is None else f"channels in dim {dim}"


def view_of(x: Tensor, channel_dim: int | None) -> View:
    """Read a tensor as channels x positions.

    Args:
        x: any strided tensor.
        channel_dim: the dim of its channels; negative ones count from the end. None: all of it is
            one channel.

    Raises:
        FmstatsError: `channel_dim` is not a dim of `x`.
    """
    view, _ = _view_of(x, channel_dim, [0] * x.dim())
    return view


def grouped_view_of(
    x: Tensor, channel_dim: int | None, numbers: Tensor, groups: int = 1
) -> tuple[View, Positions]:
    """Read a tensor as channels x positions, each of which belongs to a group or does not count.

    Args:
        x: any strided tensor.
        channel_dim: the dim of its channels; negative ones count from the end. None: all of it is
            one channel.
        numbers: bool or uint8, on the device of `x` and with its dims, of size 1 where the group
            does not depend on them: the group of each position, from 1 on, or 0 for none.
        groups: how many there are, 1 to 255.

    Raises:
        FmstatsError: the numbers are of another dtype, device or shape, or depend on the channel.
    """
    if numbers.dtype not in (torch.bool, torch.uint8):
        raise FmstatsError(f"the groups of positions are bool or uint8, got {numbers.dtype}")
    if numbers.device != x.device:
        raise FmstatsError(f"the mask is on {numbers.device}, the tensor on {x.device}")
    sizes = list(zip(numbers.shape, x.shape, strict=False))
    if numbers.dim() != x.dim() or any(size not in (1, whole) for size, whole in sizes):
        raise FmstatsError(
            f"a mask of shape {tuple(numbers.shape)} does not fit a tensor of {tuple(x.shape)}"
        )
    strides = [
        stride if size > 1 else 0
        for size, stride in zip(numbers.shape, numbers.stride(), strict=True)
    ]
    if channel_dim is not None and strides[resolve_dim(channel_dim, x.shape)] != 0:
        raise FmstatsError(f"dim {channel_dim} holds the channels: a mask is of positions")
    view, beside = _view_of(x, channel_dim, strides)
    return view, Positions(numbers, beside, groups)


def joined_dims(dims: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Join neighbouring dims, each a size and strides, where every stride walks through both."""
    joined: list[tuple[int, ...]] = []
    for size, *strides in dims:
        if joined and joined[-1][1:] == tuple(size * stride for stride in strides):
            joined[-1] = (joined[-1][0] * size, *strides)
        else:
            joined.append((size, *strides))
    return joined


def _view_of(
    x: Tensor, channel_dim: int | None, mask_strides: Sequence[int]
) -> tuple[View, tuple[int, ...]]:
    """Return the view of a tensor, and the strides of what is read beside it."""
    dims = list(zip(x.shape, x.stride(), mask_strides, strict=True))
    channels, channel_stride = 1, 1
    if channel_dim is not None:
        channels, channel_stride, _ = dims.pop(resolve_dim(channel_dim, x.shape))
    # Largest stride first, so that the run is the tightest dim; repeats (stride 0) before them.
    in_order = sorted(dims, key=lambda d: (d[1] != 0, -d[1]))
    joined = joined_dims([dim for dim in in_order if dim[0] != 1])
    joined = joined or [(1, 1, 0)]
    sizes_and_strides = tuple((size, stride) for size, stride, _ in joined)
    return View(channels, channel_stride, sizes_and_strides), tuple(d[2] for d in joined)
