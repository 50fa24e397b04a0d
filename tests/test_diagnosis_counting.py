"""Range rules of profiles with histograms: shares are counts, and those of bounds are not told."""

from __future__ import annotations

import pytest
import torch
from diagnosis_profiles import healthy, layer_of, profile_of
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fmstats import Finding
from fmstats.diagnosis.counting import count_below, count_beyond
from fmstats.diagnosis.formats import FORMATS, Format
from fmstats.diagnosis.observed import Observed, observe
from fmstats.statistic.bins import Bins
from fmstats.statistic.measures import Measures

SCOPES = ("layer", "channel")
COUNTED = [form for form in FORMATS if form.name != "bfloat16"]
by_format = pytest.mark.parametrize("form", COUNTED, ids=lambda form: form.name)
by_scope = pytest.mark.parametrize("scope", SCOPES)


def histogram(scope: str, resolution: int = 4) -> Measures:
    return Measures.of("histogram", Bins(scope, resolution))


def found(
    x: Tensor, form: Format, scope: str, dtype: str | None = None, **thresholds: float
) -> list[Finding]:
    """What is said of numbers that run in the format, so that none is scaled."""
    layer = layer_of(x, "Linear", dtype=dtype or form.dtype, measures=histogram(scope))
    return profile_of(layer).diagnose([f"range-{form.name}"], thresholds).findings


def observed(x: Tensor, scope: str, resolution: int = 4) -> Observed:
    return observe(profile_of(layer_of(x, measures=histogram(scope, resolution))))[0]


@by_format
@by_scope
def test_the_share_beyond_is_counted(form: Format, scope: str) -> None:
    x = healthy(1000, 4).double()
    x[:3, 1], x[7, 2] = form.largest * 2, -form.largest * 1.5
    (finding,) = found(x, form, scope)
    assert finding.channels == (1, 2)
    assert finding.evidence["abs_max"] == form.largest * 2
    share = {"layer": 4 / 4000, "channel": 3 / 1000}[scope]
    assert finding.evidence["beyond"] == share
    whose = {"layer": "0.1 % of the layer's", "channel": "up to 0.3 % of a channel's"}[scope]
    assert finding.message.endswith(f"ends at {form.largest:.5g}, {whose} elements at it or beyond")
    assert not [name for name in finding.evidence if "at_most" in name]


@by_format
@by_scope
def test_none_beyond_but_near(form: Format, scope: str) -> None:
    x = healthy(1000, 2).double()
    x[0, 0] = form.largest
    (finding,) = found(x, form, scope)
    assert finding.message.endswith(f"ends at {form.largest:.5g}, none beyond it")
    assert "beyond" not in finding.evidence


@by_format
def test_most_of_a_channel_is_lost_though_its_rms_is_large(form: Format) -> None:
    """A bound by the rms does not see it."""
    x = torch.full((1000, 2), 1.0, dtype=torch.float64)
    x[:501, 1] = form.smallest_normal / 2
    (finding,) = found(x, form, "channel")
    assert (finding.channels, finding.evidence["below"]) == ((1,), 0.501)
    assert "50.1 % or more of the nonzero elements of each are below" in finding.message
    assert found(x, form, "channel", underflow=0.51) == []
    layer = layer_of(x, "Linear", dtype=form.dtype)
    assert profile_of(layer).diagnose([f"range-{form.name}"]).findings == []


@by_format
def test_a_layer_tells_of_all_of_its_channels(form: Format) -> None:
    x = torch.full((1000, 3), 1.0, dtype=torch.float64)
    x[:900], x[:, 2] = -form.smallest_normal / 2, 0
    (finding,) = found(x, form, "layer")
    assert finding.channels == (0, 1)  # a cast keeps what is 0
    assert finding.evidence["below"] == 0.9
    assert "90 % of the layer's nonzero elements are below" in finding.message


@by_format
def test_a_small_channel_is_found_in_a_layer_of_large_ones(form: Format) -> None:
    """The histogram of the layer hardly shows it: its bound does."""
    x = torch.full((1000, 4), 1.0, dtype=torch.float64)
    x[:, 3] = form.smallest_normal / 2
    (finding,) = found(x, form, "layer")
    assert finding.channels == (3,)
    assert finding.evidence["below_at_least"] == pytest.approx(0.75)
    (finding,) = found(x, form, "channel")
    assert (finding.channels, finding.evidence["below"]) == ((3,), 1)
    assert "below_at_least" not in finding.evidence


def test_zeros_and_what_is_not_finite_are_no_part_of_it() -> None:
    x = torch.full((2000, 1), 1.0, dtype=torch.float64)
    x[:600] = 2.0**-15
    x[600:1000], x[1000:1200] = 0, torch.nan
    (finding,) = found(x, FORMATS[0], "channel", underflow=0.4)
    assert finding.evidence["below"] == 600 / 1400


def test_too_few_are_no_evidence_of_what_is_lost() -> None:
    x = torch.full((299, 1), 2.0**-20, dtype=torch.float64)
    layer = layer_of(x, measures=histogram("channel"))
    diagnosis = profile_of(layer).diagnose(["range-float16"])
    assert diagnosis.findings == []
    assert len(diagnosis.not_enough_data) == 1


@pytest.mark.parametrize("form", [form for form in FORMATS if form.scaled], ids=lambda f: f.name)
def test_formats_with_a_scale_tell_what_is_lost_without_one(form: Format) -> None:
    x = torch.full((1000, 2), form.largest / 2, dtype=torch.float64)
    assert found(x, form, "layer", "float32") == []
    x[:6, 0] = form.largest * 1.5
    (finding,) = found(x, form, "layer", "float32")
    assert (finding.channels, finding.severity) == ((0,), "info")
    assert finding.message == (
        f"1 of 2 channels (0): up to {form.largest * 1.5:.4g} where {form.name} ends at "
        f"{form.largest:.5g} without a scale, 0.3 % of the layer's elements at it or beyond"
    )
    plain = profile_of(layer_of(x, "Linear")).diagnose([f"range-{form.name}"])
    assert plain.findings == []


def test_no_bin_tells_of_what_bfloat16_loses() -> None:
    """Its limits are beyond all bins, so that the bounds stay."""
    form = FORMATS[1]
    assert form.name == "bfloat16"
    x = torch.ones(1000, 2, dtype=torch.float64)
    x[:3, 0], x[:, 1] = form.largest * 2, form.smallest_normal / 2
    (finding,) = found(x, form, "channel")
    assert {"beyond_at_most", "below_at_least"} < set(finding.evidence)
    layer = observed(x, "channel")
    for magnitude, told in ((65504.0, True), (65505.0, False), (2.0**-24, True), (1e-8, False)):
        assert (count_beyond(layer, magnitude) is not None) == told
        assert (count_below(layer, magnitude) is not None) == told


def test_without_a_histogram_nothing_is_counted() -> None:
    layer = observe(profile_of(layer_of(healthy())))[0]
    assert layer.distribution is None
    assert count_beyond(layer, 1.0) is count_below(layer, 1.0) is None


@given(
    seed=st.integers(0, 2**16),
    scope=st.sampled_from(SCOPES),
    resolution=st.integers(2, 6),
    magnitude=st.sampled_from([2.0**-14, 2.0**-6, 1.0, 448.0, 57344.0, 65504.0]),
)
def test_counts_at_edges_are_exact(
    seed: int, scope: str, resolution: int, magnitude: float
) -> None:
    torch.manual_seed(seed)
    x = magnitude * torch.randn(200, 3, dtype=torch.float64).exp2()
    x *= torch.randint(-1, 2, x.shape)
    x[:5] = magnitude
    layer = observed(x, scope, resolution)
    beyond, below = count_beyond(layer, magnitude), count_below(layer, magnitude)
    assert beyond is not None
    assert below is not None
    assert beyond.of_channels == below.of_channels == (scope == "channel")
    groups = [x[:, i] for i in range(3)] if scope == "channel" else [x] * 3
    for i, group in enumerate(groups):
        large, nonzero = group.abs() >= magnitude, group != 0
        assert beyond.share[i] == pytest.approx(float(large.double().mean()), rel=1e-12)
        small = (nonzero & ~large).sum() / nonzero.sum()
        assert below.share[i] == pytest.approx(float(small), rel=1e-6, abs=1e-12)
