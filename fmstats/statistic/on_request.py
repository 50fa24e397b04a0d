"""`OnRequest` is the part of `ChannelStats` that is there if `track(measure=...)` asked for it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np

from fmstats.errors import FmstatsError
from fmstats.statistic.distribution import Array, Distribution
from fmstats.statistic.measures import HISTOGRAM, Measures
from fmstats.statistic.pooling import pool_all
from fmstats.statistic.state import State

# Shares of elements that lie below a number, by what tables call that number.
QUANTILES = {"p1": 0.01, "p50": 0.5, "p99": 0.99}


class OnRequest:
    """What is derived from requested fields: each asks for its measure, or raises.

    What comes of histograms has a number for each of them: of each channel, or one of the layer.

    Attributes:
        state: the mergeable state, on the CPU.
    """

    # The measure that each needs.
    REQUESTED: ClassVar[dict[str, str]] = {
        "mean_abs": "abs",
        "skewness": "kurtosis",
        "kurtosis": "kurtosis",
    }

    state: State

    @property
    def measures(self) -> Measures:
        """Return what was measured beside what always is."""
        return self.state.measures

    @property
    def requested(self) -> tuple[str, ...]:
        """Return the names of the derived numbers of channels that were asked for."""
        names = [n for n, measure in self.REQUESTED.items() if measure in self.measures.names]
        bins = self.measures.bins
        return (*names, *(QUANTILES if bins is not None and bins.scope == "channel" else ()))

    def columns_of(self, names: Iterable[str]) -> dict[str, Array | None]:
        """Return fields, derived numbers and those of `QUANTILES` by their names."""
        names = tuple(names)
        quantiles = self._quantiles() if any(name in QUANTILES for name in names) else {}
        return {n: quantiles[n] if n in quantiles else self._column(n) for n in names}

    def _column(self, name: str) -> Array | None:
        if hasattr(type(self), name):
            found: Array | None = getattr(self, name)
            return found
        return np.array(self.state[name].numpy())

    def _quantiles(self) -> dict[str, Array]:
        found = self.distribution
        return {name: found.quantile(q) for name, q in QUANTILES.items()}

    def list_histograms(self) -> dict[str, Any]:
        """Return the quantiles and the bins that are not empty, as lists; {} without histograms."""
        if self.measures.bins is None:
            return {}
        quantiles = {name: found.tolist() for name, found in self._quantiles().items()}
        return {**quantiles, "histograms": self.distribution.list_bins()}

    def _need(self, measure: str, name: str) -> None:
        if measure not in self.measures.names:
            raise FmstatsError(
                f"{name} is not known: it needs track(..., measure={measure!r}); measured beside "
                f"what always is: {self.measures}"
            )

    def _per_element(self, field: str) -> Array:
        n = self.state.finite.numpy()
        return np.where(n > 0, self.state[field].numpy() / np.maximum(n, 1), np.nan)

    @property
    def mean_abs(self) -> Array:
        """Return the mean magnitude of the finite elements (float64).

        Raises:
            FmstatsError: "abs" was not measured.
        """
        self._need("abs", "mean_abs")
        return self._per_element("sum_abs")

    @property
    def skewness(self) -> Array:
        """Return the third standardised moment: 0 of what is symmetric (float64).

        Of constant channels it is NaN, as of those with squares beyond float64.

        Raises:
            FmstatsError: "kurtosis" was not measured.
        """
        self._need("kurtosis", "skewness")
        return self._standardised("m3", 1.5)

    @property
    def kurtosis(self) -> Array:
        """Return the fourth standardised moment: 3 of a normal distribution (float64).

        It is 1.8 of a uniform one, and large of heavy tails; "excess" kurtosis is 3 less. Of
        constant channels it is NaN, as of those with fourth powers beyond float64.

        Raises:
            FmstatsError: "kurtosis" was not measured.
        """
        self._need("kurtosis", "kurtosis")
        return self._standardised("m4", 2.0)

    def _standardised(self, field: str, power: float) -> Array:
        variance = self._per_element("m2")
        known = (variance > 0) & np.isfinite(variance)
        with np.errstate(all="ignore"):
            found = self._per_element(field) / np.where(known, variance, 1.0) ** power
        return np.where(known & np.isfinite(found), found, np.nan)

    @property
    def distribution(self) -> Distribution:
        """Return the histograms, as what can be asked of them.

        Raises:
            FmstatsError: "histogram" was not measured.
        """
        self._need(HISTOGRAM, "the distribution")
        bins, counts = self.measures.bins, self.state.bins
        assert bins is not None
        assert counts is not None
        whole = pool_all(self.state) if bins.scope == "layer" else self.state
        finite = whole.finite.numpy()
        low, high = (np.where(finite > 0, whole[field].numpy(), np.nan) for field in ("min", "max"))
        zeros = finite - counts.numpy().sum(1)
        return Distribution.of(bins, counts.numpy(), zeros, low, high)

    def quantile(self, q: float) -> Array:
        """Return the number below which a share `q` of the finite elements lies (float64).

        Args:
            q: from 0 to 1.

        Returns:
            One for each histogram: (C,) or, of the layer, (1,); NaN where nothing was finite. The
            relative error is at most `2**-resolution` for magnitudes from 2^-24 to 65504.

        Raises:
            FmstatsError: "histogram" was not measured, or no such share.
        """
        if not 0 <= q <= 1:
            raise FmstatsError(f"quantile({q!r}): give a share from 0 to 1")
        return self.distribution.quantile(q)

    @property
    def median(self) -> Array:
        """Return `quantile(0.5)`."""
        return self.quantile(0.5)

    @property
    def iqr(self) -> Array:
        """Return the distance of the quartiles: `quantile(0.75) - quantile(0.25)`."""
        found = self.distribution
        return np.asarray(found.quantile(0.75) - found.quantile(0.25))

    def share_above(self, x: float, *, magnitude: bool = False) -> Array:
        """Return the share of the finite elements that are `x` or more (float64).

        It is exact at an edge of the bins, such as each power of two from 2^-24 on, and 65504.

        Args:
            x: the bound.
            magnitude: of |element| instead of the element.

        Returns:
            One for each histogram, as of `quantile`.

        Raises:
            FmstatsError: "histogram" was not measured.
        """
        found = self.distribution
        count = found.beyond(x) if magnitude else found.above(x)
        return np.where(found.total > 0, count / np.maximum(found.total, 1), np.nan)

    def histogram(self, bins: int = 64) -> tuple[Array, Array]:
        """Return a histogram of equally wide bins, of all channels together.

        Args:
            bins: how many, from the smallest to the largest finite element.

        Returns:
            The counts, float64 (bins,), and the edges, float64 (bins + 1,), as `numpy.histogram`
            does. A count that had to be divided between two bins has a fraction. Both are empty
            where nothing was finite.

        Raises:
            FmstatsError: "histogram" was not measured, or fewer than 1 bin is asked for.
        """
        if type(bins) is not int or bins < 1:
            raise FmstatsError(f"histogram(bins={bins!r}): give 1 or more")
        found = self.distribution
        if not found.total.any():
            return np.zeros(0), np.zeros(0)
        low, high = np.nanmin(found.edges[found.total > 0]), np.nanmax(found.edges[found.total > 0])
        if low == high:  # as numpy.histogram widens the range of a constant
            low, high = low - 0.5, high + 0.5
        edges = np.linspace(low, high, bins + 1)
        return np.asarray(found.rebinned(edges).sum(0)), edges
