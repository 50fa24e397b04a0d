"""The one table of accuracies promised, and the comparison made with it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fmstats.statistic.fields import COUNTS, EXTREMES, FIELDS, FIRSTS, SUMS
from fmstats.statistic.state import State

# dtype of the data: (error of the mean in standard deviations, relative error of the variance)
ACCURACY = {torch.float64: (1e-12, 1e-12)}
ACCURACY |= dict.fromkeys(
    (torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2),
    (1e-6, 1e-6),
)
EXACT = (*COUNTS, *EXTREMES, *FIRSTS)
# States of the same data merged in another order.
ROUNDING = (1e-13, 1e-12)


def assert_equal_states(
    got: State, want: State, accuracy: tuple[float, float], of: object = ""
) -> None:
    """Exact fields equal, moments within `accuracy`; bit for bit where nothing deviates.

    Args:
        of: what the states are of, for the message.
    """
    for field in EXACT:  # as bits: -0.0 is not 0.0 here
        row = FIELDS.index(field)
        assert torch.equal(got.words[row], want.words[row]), (of, field, got[field], want[field])
    mean_error, var_error = accuracy
    n, m2 = want.finite.clamp(min=1).double(), want["m2"]
    std = (m2 / n).sqrt()
    # Where squares leave float64 the range stands in for the standard deviation.
    lost = (m2 == math.inf) | (m2 < n * 2.0**-1000)
    width = torch.where(lost & (want.finite > 0), want["max"] / 2 - want["min"] / 2, std)
    # Two ulps of the mean are below what its float64 can say.
    allowed = mean_error * width + 2**-51 * want["mean"].abs() * (width > 0)
    _assert_close("mean", got["mean"], want["mean"], allowed, of)
    # So m2 is about a mean that may be two ulps off: told where the promise's 10^4 deviations end.
    far = want["mean"].abs() > 1e4 * std
    allowed = var_error * m2 + torch.where(far, 2**-51 * want["mean"].abs() * std * n, 0.0)
    # And a square below 2^-1022 loses up to half of float64's smallest number.
    _assert_close("m2", got["m2"], m2, allowed + n * 2.0**-1074 * (width > 0), of)
    for field in SUMS:
        _assert_close(field, got[field], want[field], var_error * want[field].abs(), of)


def assert_near_states(got: State, want: State, accuracy: float, of: object = "") -> None:
    """Of data that differ by rounding counts are equal, all else within so many deviations."""
    for count in COUNTS:
        assert torch.equal(got[count], want[count]), (of, count, got[count], want[count])
    n = want["count"].clamp(min=1).double()
    std = (want["m2"] / n).sqrt()
    for value in ("mean", "min", "max"):
        error = (got[value] - want[value]).abs()
        assert (error <= accuracy * std).all(), (of, value, error / std)
    error = (got["m2"] - want["m2"]).abs()
    assert (error <= accuracy * want["m2"]).all(), (of, "m2", error / want["m2"])


def _assert_close(field: str, got: Tensor, want: Tensor, allowed: Tensor, of: object) -> None:
    """Not farther apart than allowed. A NaN is no number's neighbour, infinity its own alone."""
    near = torch.where(torch.isfinite(want), (got - want).abs() <= allowed, got == want)
    off = ~near
    assert not off.any(), (of, field, off.nonzero().flatten(), got[off], want[off], allowed[off])


def assert_equal_requested(
    got: State, want: State, accuracy: tuple[float, float], of: object = ""
) -> None:
    """Histograms are equal, sums of magnitudes within 1e-12, moments within `accuracy`.

    Moments of which a power leaves float64 mean nothing, and are not compared.

    Args:
        got: what was measured, in the measures of `want`.
        want: what it should be.
        accuracy: of the mean in deviations, and relative, as of the variance.
        of: what the states are of, for the message.
    """
    assert got.measures == want.measures
    if got.bins is not None and want.bins is not None:
        assert torch.equal(got.bins, want.bins), (of, got.bins - want.bins)
    mean_error, relative = accuracy
    n, m2 = want.finite.clamp(min=1).double(), want["m2"]
    if "abs" in want.measures.sums:
        allowed = 1e-12 * want["sum_abs"] + n * 2.0**-1074  # float64, of every dtype
        _assert_close("sum_abs", got["sum_abs"], want["sum_abs"], allowed, of)
    if "kurtosis" in want.measures.sums:
        width = torch.where(want.finite > 0, want["max"] / 2 - want["min"] / 2, 0.0)
        known = (width < 2.0**200) & (width > 2.0**-200)
        known &= want["mean"].abs() < 2.0**200
        off = mean_error * (m2 / n).sqrt() + 2**-51 * want["mean"].abs()
        cubes = (m2 * want["m4"]).sqrt()  # no less than the sum of |d|^3
        m3, m4 = relative * cubes + 3 * off * m2, relative * want["m4"] + 4 * off * cubes
        for field, allowed in (("m3", m3), ("m4", m4)):
            found, wanted = (torch.where(known, state[field], 0.0) for state in (got, want))
            _assert_close(field, found, wanted, torch.where(known, allowed, 0.0), of)
