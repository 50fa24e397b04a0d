"""The one table of accuracies promised, and the comparison made with it."""

from __future__ import annotations

import torch

from fmstats.statistic import COUNTS, FIELDS, State

# dtype of the data: (error of the mean in standard deviations, relative error of the variance)
ACCURACY = {torch.float64: (1e-12, 1e-12)}
ACCURACY |= dict.fromkeys(
    (torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2),
    (1e-6, 1e-6),
)
EXACT = (*COUNTS, "min", "max")
# States of the same data merged in another order.
ROUNDING = (1e-13, 1e-12)


def assert_equal_states(got: State, want: State, accuracy: tuple[float, float]) -> None:
    """Exact fields equal, moments within `accuracy`; bit for bit where nothing deviates."""
    for field in EXACT:  # as bits: -0.0 is not 0.0 here
        row = FIELDS.index(field)
        assert torch.equal(got.words[row], want.words[row]), (field, got[field], want[field])
    mean_error, var_error = accuracy
    std = (want["m2"] / want.finite.clamp(min=1)).sqrt()
    # Two ulps of the mean are below what its float64 can say.
    allowed = mean_error * std + 2**-51 * want["mean"].abs() * (std > 0)
    off = (got["mean"] - want["mean"]).abs() > allowed
    assert not off.any(), ("mean", got["mean"][off], want["mean"][off], std[off])
    off = (got["m2"] - want["m2"]).abs() > var_error * want["m2"]
    assert not off.any(), ("m2", got["m2"][off], want["m2"][off])
