"""A `View` reads any strided tensor as channels x positions, without a copy.

The statistic does not care in which order positions come, so they are sorted by stride and
adjacent ones joined: NCHW becomes (N, stride C*H*W), (H*W, stride 1); channels_last becomes
(N*H*W, stride C) under a channel stride of 1. Kernels walk the last dim.

A mask tells which positions count. It is read by strides as well, one for each dim of the view, so
that no mask of the tensor's own size is ever made.
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
    """These positions of a view count, and no others.

    Attributes:
        mask: bool or uint8, 0 where a position does not count; it is not changed.
        strides: of the mask, one for each dim of the view; 0 along a dim that the mask lacks.
    """

    mask: Tensor
    strides: tuple[int, ...]

    def of(self, view: View) -> Tensor:
        """Return which positions count, a bool tensor of the view's sizes that is no copy."""
        sizes = [size for size, _ in view.dims]
        return self.mask.as_strided(sizes, self.strides).view(torch.bool)


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


def masked_view_of(
    x: Tensor, channel_dim: int | None, mask: Tensor, mask_dims: Sequence[int]
) -> tuple[View, Positions]:
    """Read a tensor as channels x positions, some of which count.

    Args:
        x: any strided tensor.
        channel_dim: the dim of its channels; negative ones count from the end. None: all of it is
            one channel.
        mask: bool or uint8, on the device of `x`; 0 where a position does not count.
        mask_dims: the dims of `x` that the dims of the mask are, in its order.

    Raises:
        FmstatsError: a dim is none of `x`, comes twice, holds the channels, or has another size in
            the mask; or the mask is of another dtype or device.
    """
    if mask.dtype not in (torch.bool, torch.uint8):
        raise FmstatsError(f"a mask is bool or uint8, got {mask.dtype}")
    if mask.device != x.device:
        raise FmstatsError(f"the mask is on {mask.device}, the tensor on {x.device}")
    dims = [resolve_dim(dim, x.shape) for dim in mask_dims]
    if len(dims) != mask.dim() or len(set(dims)) != len(dims):
        raise FmstatsError(
            f"a mask of {mask.dim()} dims needs as many dims of the tensor, each once, got {dims}"
        )
    if channel_dim is not None and resolve_dim(channel_dim, x.shape) in dims:
        raise FmstatsError(f"dim {channel_dim} holds the channels: a mask is of positions")
    covered = tuple(x.shape[dim] for dim in dims)
    if covered != tuple(mask.shape):
        raise FmstatsError(
            f"the mask is of shape {tuple(mask.shape)}, dims {dims} of the tensor of {covered}"
        )
    strides = [0] * x.dim()
    for dim, stride in zip(dims, mask.stride(), strict=True):
        strides[dim] = stride
    view, mask_strides = _view_of(x, channel_dim, strides)
    return view, Positions(mask, mask_strides)


def _view_of(
    x: Tensor, channel_dim: int | None, mask_strides: Sequence[int]
) -> tuple[View, tuple[int, ...]]:
    """Return the view of a tensor, and the strides of what is read beside it."""
    dims = list(zip(x.shape, x.stride(), mask_strides, strict=True))
    channels, channel_stride = 1, 1
    if channel_dim is not None:
        channels, channel_stride, _ = dims.pop(resolve_dim(channel_dim, x.shape))
    joined: list[tuple[int, int, int]] = []
    # Largest stride first, so that the run is the tightest dim; repeats (stride 0) before them.
    for size, stride, beside in sorted(dims, key=lambda d: (d[1] != 0, -d[1])):
        if size == 1:
            continue
        if joined and joined[-1][1:] == (size * stride, size * beside):
            joined[-1] = (joined[-1][0] * size, stride, beside)
        else:
            joined.append((size, stride, beside))
    joined = joined or [(1, 1, 0)]
    sizes_and_strides = tuple((size, stride) for size, stride, _ in joined)
    return View(channels, channel_stride, sizes_and_strides), tuple(d[2] for d in joined)
