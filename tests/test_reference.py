"""The oracle itself, against exact rational arithmetic."""

from __future__ import annotations

import math
import statistics

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fmstats.backends.reference import measure
from fmstats.statistic.thresholds import Thresholds


@given(st.lists(st.floats(-1e100, 1e100), min_size=1, max_size=40))
def test_moments(values: list[float]) -> None:
    got = measure(torch.tensor(values, dtype=torch.float64), Thresholds())
    exact = [statistics.Fraction(v) for v in values]
    mean = sum(exact) / len(exact)
    m2 = float(sum((v - mean) ** 2 for v in exact))
    scale = max(map(abs, values))
    assert got["mean"] == pytest.approx(float(mean), rel=1e-14, abs=1e-15 * scale)
    assert got["m2"] == pytest.approx(m2, rel=1e-12, abs=1e-29 * scale**2)
    assert (got["min"], got["max"]) == (min(values), max(values))


def test_counts() -> None:
    values = [0.0, -0.0, 5e-324, 0.5, -2.0, 6.0, math.nan, math.inf, -math.inf, -math.inf]
    got = measure(torch.tensor(values, dtype=torch.float64), Thresholds(0.0, -1.0, 6.0))
    want = {"count": 10, "nan": 1, "pos_inf": 1, "neg_inf": 2, "zeros": 2}
    assert {k: got[k] for k in want} == want
    assert (got["sat_low"], got["sat_high"]) == (3, 2)
    assert (got["min"], got["max"]) == (-2.0, 6.0)


def test_a_constant_is_exact() -> None:
    got = measure(torch.full((9,), 0.3, dtype=torch.float64), Thresholds())
    assert (got["mean"], got["m2"]) == (0.3, 0.0)
