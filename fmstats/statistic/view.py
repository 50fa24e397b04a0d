"""A `View` reads any strided tensor as channels x positions, without a copy.

The statistic does not care in which order positions come, so they are sorted by stride and
adjacent ones joined: NCHW becomes (N, stride C*H*W), (H*W, stride 1); channels_last becomes
(N*H*W, stride C) under a channel stride of 1. Kernels walk the last dim.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
    sizes, strides = list(x.shape), list(x.stride())
    channels, channel_stride = 1, 1
    if channel_dim is not None:
        channel_dim = resolve_dim(channel_dim, x.shape)
        channels, channel_stride = sizes.pop(channel_dim), strides.pop(channel_dim)
    dims: list[tuple[int, int]] = []
    # Largest stride first, so that the run is the tightest dim; repeats (stride 0) before them.
    order = sorted(zip(sizes, strides, strict=True), key=lambda d: (d[1] != 0, -d[1]))
    for size, stride in order:
        if size == 1:
            continue
        if dims and dims[-1][1] == size * stride:
            dims[-1] = (dims[-1][0] * size, stride)
        else:
            dims.append((size, stride))
    return View(channels, channel_stride, tuple(dims) or ((1, 1),))
