"""Arrange a layer's output for one sample as channels x height x width."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fmstats.errors import FmstatsError
from fmstats.statistic.channel_stats import DEAD_SPARSITY

Array = NDArray[Any]
Order = Literal["index", "variance", "mean", "sparsity"]
Scale = Literal["shared", "channel"]


@dataclass(frozen=True)
class Arranged:
    """Holds one sample as maps, without a copy where strides allow it.

    Attributes:
        maps: (C, H, W).
        note: what of the output is shown, where that is not all; else empty.
        whole: whether the output was of one sample.
    """

    maps: Tensor
    note: str
    whole: bool


def arrange(x: Tensor, channel_dim: int, sample: int | None = None) -> Arranged:
    """Read one sample of an output as maps.

    Two spatial dims are a map; none, a map of 1 x 1; one, a strip of 1 x L. Of more, the middle of
    each leading one is taken. Tokens (channels in the last dim) whose number is a square make a
    square map, also behind one class token.

    Args:
        x: an output of any number of dims from 1 up.
        channel_dim: from 0 up.
        sample: which index of dim 0; None: the output is of one sample, whether it has a dim for
            samples or not.
    """
    notes = []
    tokens = channel_dim == x.dim() - 1
    whole = sample is not None or channel_dim == 0 or len(x) == 1 or x.dim() == 2
    if sample is not None or (channel_dim != 0 and (len(x) == 1 or x.dim() > 2)):
        if not whole:
            notes.append(f"the first of {len(x)} along dim 0")
        x, channel_dim = x[sample or 0], channel_dim - 1
    maps = x.movedim(channel_dim, 0)
    if tokens and maps.dim() == 2:
        maps, note = _arrange_tokens(maps)
        notes += [note] if note else []
    while maps.dim() > 3:
        depth = maps.shape[1]
        notes.append(f"slice {depth // 2} of {depth}, the middle one")
        maps = maps.select(1, depth // 2)
    while maps.dim() < 3:
        maps = maps.unsqueeze(1)
    return Arranged(maps, "; ".join(notes), whole)


def _arrange_tokens(maps: Tensor) -> tuple[Tensor, str]:
    channels, count = maps.shape
    for extra in (0, 1):
        side = math.isqrt(count - extra)
        if side >= 2 and side * side == count - extra:
            note = f"{count} tokens as a grid" + (", without the class token" if extra else "")
            return maps[:, extra:].reshape(channels, side, side), note
    return maps, f"{count} tokens in a row" if count > 1 else ""


@dataclass(frozen=True)
class FeatureMaps:
    """Holds the maps of one layer for one image.

    Attributes:
        layer: the layer's name.
        type: its class name.
        values: (C, H, W), float32 or float64, on the host.
        note: what of the layer's output is shown, where that is not all.
    """

    layer: str
    type: str
    values: Array
    note: str = ""

    @property
    def channels(self) -> int:
        """Return the number of channels."""
        return int(self.values.shape[0])

    @property
    def height(self) -> int:
        """Return the number of rows of a map."""
        return int(self.values.shape[1])

    @property
    def width(self) -> int:
        """Return the number of columns of a map."""
        return int(self.values.shape[2])

    @property
    def size(self) -> str:
        """Return height and width, as `112x112`."""
        return f"{self.height}x{self.width}"

    def finite(self, channel: int) -> Array:
        """Return the finite values of a channel as a one-dimensional float64 array."""
        plane = self.values[channel].astype(np.float64)
        return np.asarray(plane[np.isfinite(plane)])

    def limits(self, channels: Sequence[int]) -> tuple[float, float] | None:
        """Return the least and greatest finite value of these channels; None without any."""
        parts = [part for part in map(self.finite, channels) if part.size]
        if not parts:
            return None
        return min(float(p.min()) for p in parts), max(float(p.max()) for p in parts)

    def mark(self, channel: int) -> str:
        """Return `dead` (zero in more than 99 % of this map), or what is not finite; else `""`."""
        plane = self.values[channel]
        nan, inf = int(np.isnan(plane).sum()), int(np.isinf(plane).sum())
        if nan + inf == plane.size:
            return " ".join(name for name, count in (("NaN", nan), ("Inf", inf)) if count)
        if nan + inf:
            return " ".join(f"{n} {name}" for name, n in (("NaN", nan), ("Inf", inf)) if n)
        return "dead" if float((plane == 0).mean()) > DEAD_SPARSITY else ""

    def ranked(self, order: str) -> list[int]:
        """Return all channels by number, or by greatest variance, mean or share of zeros.

        Of the finite values; channels without any come last. Equal ones stay in order of number.

        Raises:
            FmstatsError: an unknown order.
        """
        if order not in get_args(Order):
            raise FmstatsError(f"order={order!r}: choose from {', '.join(get_args(Order))}")
        if order == "index":
            return list(range(self.channels))
        measure = _MEASURES[order]
        with np.errstate(over="ignore", invalid="ignore"):
            found = [
                measure(part) if part.size else -np.inf
                for part in map(self.finite, range(self.channels))
            ]
        return sorted(range(self.channels), key=lambda channel: -found[channel])

    def check_channel(self, channel: int) -> int:
        """Return `channel`, or refuse one that the layer does not have.

        Raises:
            FmstatsError: it has not.
        """
        return check_channel(channel, self.channels, self.layer)


_MEASURES: dict[str, Callable[[Array], float]] = {
    "variance": lambda values: float(values.var()),
    "mean": lambda values: float(values.mean()),
    "sparsity": lambda values: float((values == 0).mean()),
}


def check_channel(channel: int, channels: int, layer: str) -> int:
    """Return `channel`, or refuse it if it is none of the `channels` of `layer`.

    Raises:
        FmstatsError: it is not.
    """
    if isinstance(channel, bool) or not isinstance(channel, int | np.integer):
        raise FmstatsError(f"channel={channel!r}: give a number from 0 to {channels - 1}")
    if not 0 <= channel < channels:
        raise FmstatsError(
            f"layer {layer!r} has {channels} channels, none of them {channel}: "
            f"choose from 0 to {channels - 1}"
        )
    return int(channel)


def to_host(maps: Tensor) -> Array:
    """Copy a tensor to numpy, as float64 if it was that, else as float32."""
    dtype = torch.float64 if maps.dtype == torch.float64 else torch.float32
    return np.array(maps.detach().to("cpu", dtype).numpy())
