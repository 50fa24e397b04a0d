"""`ChannelStats` holds what is derived from a state, on the host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fmstats.errors import FmstatsError
from fmstats.statistic.distribution import Array
from fmstats.statistic.fields import NEVER
from fmstats.statistic.on_request import OnRequest
from fmstats.statistic.pooling import pool, pool_all
from fmstats.statistic.state import State, merge
from fmstats.statistic.thresholds import Thresholds

DEAD_SPARSITY = 0.99  # a channel with a larger share of zeros is dead


class ChannelStats(OnRequest):
    """`ChannelStats` are the statistics of one layer's channels: numpy arrays of length C.

    With nothing finite seen, mean, var, std, rms, min, max and abs_max are NaN.

    Examples:
        >>> import torch
        >>> monday = fmstats.channel_stats(torch.tensor([[0.0, 1.0], [4.0, 1.0]]))
        >>> tuesday = fmstats.channel_stats(torch.tensor([[2.0, 7.0]]))
        >>> both = monday | tuesday
        >>> print(both.mean, both.max)
        [2. 3.] [4. 7.]

    Attributes:
        state: the mergeable state, on the CPU.
        thresholds: what counted as zero and as saturated.
    """

    DERIVED = (
        *("finite_count", "var", "std", "rms", "abs_max", "sparsity", "saturated"),
        *("dead", "never_active"),
    )

    def __init__(self, state: State, thresholds: Thresholds | None = None) -> None:
        self.state = state.to("cpu")
        self.thresholds = thresholds or Thresholds()

    def _row(self, field: str) -> Array:
        return np.array(self.state[field].numpy())

    def _moment(self, field: str) -> Array:
        return np.where(self.finite_count > 0, self._row(field), np.nan)

    @property
    def channels(self) -> int:
        """Return the number of channels."""
        return self.state.channels

    @property
    def count(self) -> Array:
        """Count all elements, finite or not (int64)."""
        return self._row("count")

    @property
    def nan(self) -> Array:
        """Count the NaN elements (int64)."""
        return self._row("nan")

    @property
    def pos_inf(self) -> Array:
        """Count the elements that are +inf (int64)."""
        return self._row("pos_inf")

    @property
    def neg_inf(self) -> Array:
        """Count the elements that are -inf (int64)."""
        return self._row("neg_inf")

    def _first(self, field: str) -> Array:
        row = self._row(field)
        return np.where(row == NEVER, -1, row)

    @property
    def first_pass(self) -> Array:
        """Return the forward pass of the first element that was NaN or infinite (int64).

        Passes are counted from 1 since the tracker was made; of merged profiles it is the smallest.
        -1: in none, or it is not known, as by `channel_stats` and in files of fmstats 0.1. 0:
        before any, as where layers are called and the model never is.
        """
        return self._first("first_pass")

    @property
    def first_step(self) -> Array:
        """Return what `Tracker.step` was as that element came (int64).

        Where the step goes back it is the smallest of all in which such elements came; so it is of
        merged profiles. -1: as of `first_pass`, or no step was set in any of these passes.
        """
        return self._first("first_step")

    @property
    def zeros(self) -> Array:
        """Count the elements with |x| <= zero_tol (int64)."""
        return self._row("zeros")

    @property
    def sat_low(self) -> Array:
        """Count the elements at or below the lower saturation bound (int64; 0 without one)."""
        return self._row("sat_low")

    @property
    def sat_high(self) -> Array:
        """Count the elements at or above the upper saturation bound (int64; 0 without one)."""
        return self._row("sat_high")

    @property
    def finite_count(self) -> Array:
        """Count the elements that are neither NaN nor infinite (int64)."""
        return np.array(self.state.finite.numpy())

    @property
    def mean(self) -> Array:
        """Return the mean of the finite elements (float64)."""
        return self._moment("mean")

    def variance(self, correction: float = 1) -> Array:
        """Return the variance of the finite elements, as `torch.var` with `correction` (float64).

        Args:
            correction: what is taken off the number of elements: 1 for the sample's variance, 0 for
                the population's.

        Returns:
            m2 / (finite_count - correction); NaN where there are not more than `correction`
            elements.
        """
        free = self.finite_count - correction
        return np.where(free > 0, self._row("m2") / np.where(free > 0, free, 1), np.nan)

    @property
    def var(self) -> Array:
        """Return the variance of the finite elements, correction 1 (float64)."""
        return self.variance()

    @property
    def std(self) -> Array:
        """Return the square root of `var`."""
        return np.sqrt(self.var)

    @property
    def min(self) -> Array:
        """Return the smallest finite element (float64)."""
        return self._moment("min")

    @property
    def max(self) -> Array:
        """Return the largest finite element (float64)."""
        return self._moment("max")

    @property
    def sparsity(self) -> Array:
        """Return zeros / count (float64; NaN with nothing seen)."""
        return _ratio(self.zeros, self.count)

    @property
    def saturated(self) -> Array | None:
        """Return the share of elements at or beyond a bound; None for a layer without bounds."""
        if not self.thresholds.bounded:
            return None
        # Where both bounds are one number, an element at it is at both.
        beyond = np.minimum(self.sat_low + self.sat_high, self.count - self.nan)
        return _ratio(beyond, self.count)

    @property
    def rms(self) -> Array:
        """Return the root of the mean square of the finite elements (float64)."""
        return np.asarray(np.sqrt(np.square(self.mean) + self.variance(0)))

    @property
    def abs_max(self) -> Array:
        """Return the largest magnitude among the finite elements (float64)."""
        return np.maximum(np.abs(self.min), np.abs(self.max))

    @property
    def dead(self) -> Array:
        """Tell which channels are zero in more than 99 % of their elements (bool)."""
        with np.errstate(invalid="ignore"):
            return np.asarray(self.sparsity > DEAD_SPARSITY)

    @property
    def never_active(self) -> Array:
        """Tell in which channels every finite element was exactly 0 (bool)."""
        flat = (self._row("min") == 0) & (self._row("max") == 0)
        return np.asarray(flat)  # the range of nothing finite is from inf to -inf

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the names of every field and derived number of a channel."""
        return (*self.measures.fields, *self.DERIVED, *self.requested)

    def merge(self, other: ChannelStats) -> ChannelStats:
        """Return the statistics of both data sets together.

        Args:
            other: of as many channels and the same measures, under the same thresholds.

        Raises:
            FmstatsError: other channels or measures, or other thresholds for zero or saturation.
        """
        if self.thresholds != other.thresholds:
            raise FmstatsError(
                "cannot merge counts made under different thresholds: "
                f"{self.thresholds} and {other.thresholds}"
            )
        return ChannelStats(merge(self.state, other.state), self.thresholds)

    def __or__(self, other: object) -> ChannelStats:
        return self.merge(other) if isinstance(other, ChannelStats) else NotImplemented

    def of_nothing(self) -> ChannelStats:
        """Return the statistics of no data, of as many channels and in the same terms."""
        return ChannelStats(State.identity(self.channels, measures=self.measures), self.thresholds)

    def pooled(self) -> ChannelStats:
        """Merge all channels into one; of no channels, into one that has seen nothing."""
        return ChannelStats(pool_all(self.state), self.thresholds)

    def list_columns(self) -> dict[str, list[Any] | None]:
        """Return every field and derived number of channels as a list, by its name."""
        found = self.columns_of(self.columns)
        return {name: None if row is None else row.tolist() for name, row in found.items()}

    def to_dict(self) -> dict[str, Any]:
        """Return every field and derived number as a list, the histograms and the thresholds."""
        t = self.thresholds
        bounds = None if not t.bounded else [t.low, t.high]
        known = {"zero_tol": t.zero_tol, "saturation_bounds": bounds, **self.list_columns()}
        return known | self.list_histograms()

    def __repr__(self) -> str:
        whole = self.pooled()
        if not self.channels or not whole.finite_count[0]:
            return f"ChannelStats({self.channels} channels, nothing finite seen)"
        return (
            f"ChannelStats({self.channels} channels, {whole.count[0]} elements, "
            f"mean {whole.mean[0]:.4g}, std {whole.std[0]:.4g}, "
            f"min {whole.min[0]:.4g}, max {whole.max[0]:.4g}, "
            f"sparsity {whole.sparsity[0]:.4g}, {int(self.dead.sum())} dead)"
        )


def pool_channels(layers: Sequence[ChannelStats]) -> list[ChannelStats]:
    """Merge the channels of each layer into one: `ChannelStats.pooled` of all but histograms."""
    found: dict[int, ChannelStats] = {}
    for measures in dict.fromkeys(layer.measures.without_bins for layer in layers):
        alike = [i for i, layer in enumerate(layers) if layer.measures.without_bins == measures]
        states = [
            layers[i].state.narrowed(measures)
            if layers[i].channels
            else State.identity(1, measures=measures)
            for i in alike
        ]
        whole = pool(State.beside(states), [state.channels for state in states])
        parts = whole.split([1] * len(alike))
        found |= {
            i: ChannelStats(part, layers[i].thresholds)
            for i, part in zip(alike, parts, strict=True)
        }
    return [found[i] for i in range(len(layers))]


def _ratio(part: Array, whole: Array) -> Array:
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)
