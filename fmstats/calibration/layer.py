"""Turn the numbers of one layer into codes of 8 bits, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fmstats.calibration.grids import Floats
from fmstats.calibration.schemes import SCHEMES, Scheme
from fmstats.errors import FmstatsError
from fmstats.statistic.distribution import Array


@dataclass(frozen=True, eq=False)
class LayerQParams:
    """Tells how the numbers of one layer become codes: x = (code - zero_point) * scale.

    Attributes:
        scale: float32: of the layer, without dims; or of each channel, (C,).
        zero_point: int64 of that shape; all 0 but in affine schemes.
        scheme: the name of the scheme.
        layer: the name of the module or operation.
        channel_dim: the dim that has a scale for each of its channels; None: there is one scale.
        clipped: the share of the finite numbers that lie beyond the codes; None: not known.
        sqnr: how much larger the numbers are than the error that is expected of them, in dB: the
            ratio of the sums of their squares. None: not known, for want of a histogram.
        neutral: the channels, or [0] of the whole, that showed no number but one: any method gives
            them a scale that loses nothing, which is 1 where that number is 0.
    """

    scale: Array
    zero_point: Array
    scheme: str
    layer: str
    channel_dim: int | None = None
    clipped: float | None = None
    sqnr: float | None = None
    neutral: tuple[int, ...] = ()

    @property
    def low(self) -> Array:
        """Return the smallest number that has a code (float64)."""
        return self._scheme.bounds(self.scale, self.zero_point)[0]

    @property
    def high(self) -> Array:
        """Return the largest number that has a code (float64)."""
        return self._scheme.bounds(self.scale, self.zero_point)[1]

    @property
    def _scheme(self) -> Scheme:
        return SCHEMES[self.scheme]

    def fake_quantize(self, x: Tensor) -> Tensor:
        """Return numbers after the way to codes and back, in their own dtype.

        Args:
            x: floating-point.

        Raises:
            FmstatsError: it has other channels.
        """
        scheme = self._scheme
        least, most = scheme.limits
        scale, zero_point = self._beside(self.scale, x), self._beside(self.zero_point, x)
        steps = x.to(torch.promote_types(x.dtype, torch.float32)) / scale
        if isinstance(scheme.grid, Floats):
            codes = steps.clamp(least, most).to(getattr(torch, scheme.dtype)).to(steps.dtype)
        else:
            codes = (steps.round() + zero_point).clamp(least, most) - zero_point
        return (codes * scale).to(x.dtype)

    def _beside(self, values: Array, x: Tensor) -> Tensor:
        """Return numbers of channels in a shape that is broadcast to `x`."""
        found, dim = torch.as_tensor(values, device=x.device), self.channel_dim
        if dim is None:
            return found
        if not -x.dim() <= dim < x.dim() or x.shape[dim] != found.numel():
            raise FmstatsError(
                f"{self.layer!r} has scales of {found.numel()} channels in dim {dim}; "
                f"a tensor of shape {tuple(x.shape)} has other channels"
            )
        shape = [1] * x.dim()
        shape[dim] = -1
        return found.view(shape)

    def to_dict(self) -> dict[str, Any]:
        """Return lists, numbers and strings."""
        known = {**vars(self), "low": self.low, "high": self.high, "neutral": list(self.neutral)}
        arrays = ("scale", "zero_point", "low", "high")
        return {name: v.tolist() if name in arrays else v for name, v in known.items()}
