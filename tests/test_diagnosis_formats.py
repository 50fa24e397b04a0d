"""Range at risk in small formats: the limits are torch's, and the bounds hold for real casts."""

from __future__ import annotations

import math

import pytest
import torch
from diagnosis_profiles import layer_of, profile_of, scaled
from torch import Tensor

from fmstats import Finding
from fmstats.diagnosis.formats import FORMATS, LARGEST, RANGE_RULES, Format

by_format = pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)


def found(x: Tensor, form: Format, dtype: str | None = None, **thresholds: float) -> list[Finding]:
    """Of a layer that is cast as it is: those of 8 bits are not, unless they run in the format."""
    dtype = dtype or (form.dtype if form.scaled else "float32")
    layer = layer_of(x, "Linear", dtype=dtype)
    return profile_of(layer).diagnose([f"range-{form.name}"], thresholds).findings


@by_format
def test_limits_are_those_of_torch(form: Format) -> None:
    info = torch.finfo(getattr(torch, form.dtype))
    assert (form.largest, form.smallest_normal) == (info.max, info.smallest_normal)
    assert form.scaled == (info.bits == 8)
    assert f"range-{form.name}" in RANGE_RULES


@by_format
def test_overflow(form: Format) -> None:
    x = torch.ones(400, 2, dtype=torch.float64)
    x[7, 1] = form.largest / 2
    assert found(x, form) == []
    x[7, 1] = -form.largest * 0.6
    (finding,) = found(x, form)
    assert (finding.channels, finding.severity) == ((1,), "warning" if form.scaled else "info")
    assert finding.message.endswith(", none beyond it")
    assert found(x, form, headroom=1) == []
    x[7, 1] = form.largest * 1.01
    (finding,) = found(x, form, headroom=1)
    assert 1 / 400 <= finding.evidence["beyond_at_most"] < 1.1 / 400
    (finding,) = found(x, form, dtype=form.dtype)
    assert finding.severity == "warning"


def test_largest_numbers_are_those_of_torch() -> None:
    assert {"float32", "float64"} < LARGEST.keys()
    for dtype, largest in LARGEST.items():
        assert largest == torch.finfo(getattr(torch, dtype)).max


@by_format
def test_the_share_beyond_is_that_of_channels_that_go_beyond(form: Format) -> None:
    x = torch.full((400, 2), form.largest, dtype=torch.float64)
    x[:, 1] = 0
    x[7, 1] = form.largest * 1.01
    (finding,) = found(x, form)
    assert finding.channels == (0, 1)
    assert finding.evidence["beyond_at_most"] == pytest.approx(1.01**2 / 400)
    assert finding.evidence["abs_max"] == form.largest * 1.01
    (finding,) = found(x * 3, form)
    assert finding.evidence["beyond_at_most"] == 1  # never more than all


@by_format
def test_each_side_is_told_of_its_own_channels(form: Format) -> None:
    x = torch.ones(400, 3, dtype=torch.float64)
    x[:, 1], x[:, 2] = form.largest * 0.9, form.smallest_normal / 2
    (finding,) = found(x, form)
    assert finding.channels == (1, 2)
    assert finding.evidence["abs_max"] == form.largest * 0.9
    assert finding.evidence["rms_of_nonzero"] == pytest.approx(form.smallest_normal / 2)
    assert finding.evidence["below_at_least"] == pytest.approx(0.75)


@by_format
def test_what_is_too_small_to_be_squared_is_lost(form: Format) -> None:
    """Its rms is 0 in float64, and yet it is not 0."""
    x = torch.ones(400, 3, dtype=torch.float64)
    x[:, 1], x[:, 2] = 1e-200, 0
    for dtype in (None, "float32"):
        (finding,) = found(x, form, dtype)
        assert finding.channels == (1,)
        assert finding.evidence["below_at_least"] == 1


@by_format
@pytest.mark.parametrize("dtype", [None, "float32"])
def test_a_channel_without_numbers_changes_nothing(form: Format, dtype: str | None) -> None:
    x = torch.ones(400, 3, dtype=torch.float64)
    x[:, 1] = form.smallest_normal / form.largest / 8
    x[:, 2] = math.nan
    (finding,), (same,) = found(x, form, dtype), found(x[:, :2], form, dtype)
    assert (finding.channels, finding.evidence) == (same.channels, same.evidence)
    x[:5, 2] = 1e30 if form.largest > 1e30 else 1.0
    assert found(x, form, dtype)[0].channels == (1,)  # too few of them


@by_format
def test_underflow(form: Format) -> None:
    x = torch.ones(400, 2, dtype=torch.float64)
    x[:, 1] = form.smallest_normal
    assert found(x, form) == []
    x[:, 1] = form.smallest_normal / 2
    (finding,) = found(x, form)
    assert finding.channels == (1,)
    assert finding.evidence["below_at_least"] == pytest.approx(0.75)
    # Zeros are kept by a cast: the rest counts, and is as small as before.
    x[:300, 1] = 0
    (finding,) = found(x, form)
    assert finding.evidence["rms_of_nonzero"] == pytest.approx(form.smallest_normal / 2)
    x[:, 1] = 0
    assert found(x, form) == []


@by_format
def test_nan_and_zeros_are_not_among_the_nonzero_elements(form: Format) -> None:
    x = torch.ones(2000, 2, dtype=torch.float64)
    x[:, 1] = form.smallest_normal / 2
    x[:700, 1], x[700:1200, 1] = math.nan, 0
    (finding,) = found(x, form)
    assert finding.evidence["rms_of_nonzero"] == pytest.approx(form.smallest_normal / 2)


@by_format
@pytest.mark.parametrize("seed", range(5))
def test_shares_bound_what_happens(form: Format, seed: int) -> None:
    """The shares that a finding gives are bounds for the elements that were really there."""
    torch.manual_seed(seed)
    spread = torch.randn(1000, 1, dtype=torch.float64).mul(2).exp()
    large = spread * form.largest * 0.05 if form.name != "bfloat16" else spread * 1e37
    (finding,) = found(large, form)
    beyond = float((large > form.largest).double().mean())
    assert beyond <= finding.evidence.get("beyond_at_most", 0.0)
    small = torch.randn(1000, 1, dtype=torch.float64) * form.smallest_normal / 3
    (finding,) = found(small, form)
    below = float((small.abs() < form.smallest_normal).double().mean())
    assert 0 < finding.evidence["below_at_least"] <= below


@pytest.mark.parametrize("form", [form for form in FORMATS if form.scaled], ids=lambda f: f.name)
@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_formats_of_8_bits_are_scaled_to_the_layer(form: Format, unit: float) -> None:
    """No scale of the layer matters, but how far apart its channels are."""
    apart = form.largest / form.smallest_normal / 2  # with the headroom
    x = torch.ones(400, 2, dtype=torch.float64) * unit
    x[:, 1] /= 0.99 * apart
    assert found(x, form, "float32") == []
    x[:, 1] /= 1.02
    (finding,) = found(x, form, "float32")
    assert (finding.channels, finding.severity) == ((1,), "info")
    assert f"where {form.name}, scaled to the layer, loses digits below" in finding.message
    assert found(x, form, "float32", headroom=1) == []
    scale = form.largest / (2 * float(x.abs().max()))
    cast = (x * scale).float().to(getattr(torch, form.dtype)).double() / scale
    assert (cast[:, 0] == x[:, 0]).all()
    assert finding.evidence["below_at_least"] == pytest.approx(1 - 0.99**-2 / 1.02**2, abs=0.05)


def test_one_large_element_is_proof_enough() -> None:
    """Too few elements to say that all is well, enough to say that it is not."""
    x = torch.tensor([[1.0, 1e6]])
    diagnosis = profile_of(layer_of(x)).diagnose(["range-float16"])
    (finding,) = diagnosis.findings
    assert finding.channels == (1,)
    (lacking,) = diagnosis.not_enough_data
    assert lacking.channels == 1


def test_healthy() -> None:
    assert profile_of(scaled(1.0)).diagnose(list(RANGE_RULES)).findings == []
