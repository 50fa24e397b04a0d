"""A deviation that wild values do not sway."""

from __future__ import annotations

import numpy as np
import pytest

from fmstats.diagnosis.robust import estimate_deviation


@pytest.mark.parametrize("share", [0.5, 0.75])
def test_of_a_normal_distribution_it_is_the_standard_deviation(share: float) -> None:
    x = 3 + 2 * np.random.default_rng(0).normal(size=20_001)
    assert estimate_deviation(x, share) == pytest.approx(2, rel=0.03)
    assert estimate_deviation(-x, share) == pytest.approx(estimate_deviation(x, share))


def test_wild_values_up_to_the_share_do_not_count() -> None:
    x = np.zeros(8)
    x[:2] = 1e9
    assert estimate_deviation(x, 0.75) == 0
    x[2] = 1e9
    assert estimate_deviation(x, 0.75) > 1
    assert estimate_deviation(x) == 0


def test_by_hand() -> None:
    x = np.array([1.0, 2.0, 3.0, 5.0, 9.0])  # distances 2, 1, 0, 2, 6
    assert estimate_deviation(x) == pytest.approx(2 * 1.4826, rel=1e-4)
    assert estimate_deviation(x, 0.75) == pytest.approx(2 / 1.1503, rel=1e-4)
    assert estimate_deviation(np.array([4.0])) == 0
    x = np.array([1.0, 3.0, 5.0, 9.0])  # distances 3, 1, 1, 5
    assert estimate_deviation(x) == pytest.approx(2 * 1.4826, rel=1e-4)  # between 1 and 3
    assert estimate_deviation(x, 0.75) == pytest.approx(3 / 1.1503, rel=1e-4)  # one of them
