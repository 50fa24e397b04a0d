"""NIST's univariate data sets of accumulation accuracy (StRD, itl.nist.gov/div898/strd).

Each is made of a few certified lines: NumAcc1 has 3 numbers, the others 1001: one, then 500 pairs.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from fmstats.backends import Backend
from fmstats.statistic.channel_stats import ChannelStats
from fmstats.statistic.measures import Measures
from fmstats.statistic.state import State
from fmstats.statistic.thresholds import Thresholds
from fmstats.statistic.view import view_of

SETS = {
    # name: (data, certified mean, certified standard deviation)
    "NumAcc1": ([10000001.0, 10000003.0, 10000002.0], 10000002.0, 1.0),
    "NumAcc2": ([1.2, *[1.1, 1.3] * 500], 1.2, 0.1),
    "NumAcc3": ([1000000.2, *[1000000.1, 1000000.3] * 500], 1000000.2, 0.1),
    "NumAcc4": ([10000000.2, *[10000000.1, 10000000.3] * 500], 10000000.2, 0.1),
}


def digits(got: float, certified: float) -> float:
    """Correct decimal digits, as NIST counts them: -log10 of the relative error."""
    return math.inf if got == certified else -math.log10(abs(got - certified) / abs(certified))


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("batches", [1, 7])
def test_certified_values(backend: Backend, name: str, batches: int) -> None:
    data, mean, std = SETS[name]
    x = torch.tensor(data, dtype=torch.float64).view(-1, 1)
    state = State.identity(1)
    for batch in x.tensor_split(min(batches, len(x))):
        backend.accumulate(state, batch, view_of(batch, 1), Thresholds())
    got_mean = state["mean"].item()
    got_std = math.sqrt(state["m2"].item() / (len(data) - 1))
    assert digits(got_mean, mean) >= 12
    assert digits(got_std, std) >= 8


def exact_moments(data: list[float]) -> tuple[Fraction, ...]:
    """The sums of second, third and fourth powers of deviations from the mean, without rounding."""
    numbers = [Fraction(x) for x in data]
    mean = sum(numbers) / len(numbers)
    return tuple(sum(((x - mean) ** power for x in numbers), Fraction(0)) for power in (2, 3, 4))


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("batches", [1, 7])
def test_skewness_and_kurtosis_of_exact_fractions(
    backend: Backend, name: str, batches: int
) -> None:
    """The mean of NumAcc4, about 10^8 deviations from 0, is known to 2 * 10^-8 of one."""
    data = [*SETS[name][0], SETS[name][1] + 1.0]
    m2, m3, m4 = map(float, exact_moments(data))
    x = torch.tensor(data, dtype=torch.float64).view(-1, 1)
    state = State.identity(1, measures=Measures.of("kurtosis"))
    for batch in x.tensor_split(min(batches, len(x))):
        backend.accumulate(state, batch, view_of(batch, 1), Thresholds())
    stats = ChannelStats(state)
    n = len(data)
    assert digits(stats.kurtosis.item(), n * m4 / m2**2) >= 8
    assert digits(stats.skewness.item(), math.sqrt(n) * m3 / m2**1.5) >= 7


def test_the_data_is_what_nist_certifies() -> None:
    for name, (data, mean, std) in SETS.items():
        assert len(data) == (3 if name == "NumAcc1" else 1001)
        exact = np.array(data, dtype=np.longdouble)
        assert digits(float(exact.mean()), mean) > 14
        assert digits(float(exact.std(ddof=1)), std) > 8
