"""Scales of a profile are those that the raw numbers would give, as far as bins tell."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import fmstats
from fmstats.calibration import METHODS, SCHEMES, LayerQParams
from fmstats.calibration.entropy import _diverge
from fmstats.calibration.expected import expect_error
from fmstats.calibration.rows import rows_of
from fmstats.errors import FmstatsError
from fmstats.profiles.profile import Profile


def draw(seed: int) -> Tensor:
    return torch.randn(200_000, generator=torch.Generator().manual_seed(seed))


DATA: Mapping[str, Tensor] = {
    "normal": draw(0),
    "heavy": draw(3) ** 3,
    "relu": draw(1).relu(),
    "relu6": (3 * draw(2)).clamp(0, 6),
    "gelu": nn.functional.gelu(2 * draw(4)),
    "small": 1e-4 * draw(5) - 2e-4,
    "lopsided": torch.cat([draw(6), torch.full((3,), -80.0)])[torch.arange(200_003).flip(0)],
}


def profile_of(x: Tensor, per: str = "tensor", **options: object) -> Profile:
    """The profile of one layer that shows `x`, of shape (N, C)."""
    scope = {"tensor": "layer", "channel": "channel"}[per]
    options = {"measure": "histogram", "histogram": scope, "backend": "torch", **options}
    model = nn.Sequential(nn.Identity())
    with fmstats.track(model, **options) as tracker:
        model(x)
    return tracker.stats()


def found_in(x: Tensor, scheme: str, method: str, **options: object) -> LayerQParams:
    return profile_of(x.view(-1, 1)).qparams(scheme, method, **options)["0"]


def error_of(x: Tensor, layer: LayerQParams) -> float:
    """The mean squared error of numbers that have been codes."""
    return float((layer.fake_quantize(x.double()) - x.double()).square().mean())


def coded(x: Tensor, scheme: str, low: float, high: float) -> float:
    """The mean squared error of a range, by numpy and from raw numbers."""
    scale, zero_point = SCHEMES[scheme].parameters(np.float64(low), np.float64(high))
    return error_of(x, LayerQParams(scale, zero_point, scheme, "0"))


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_absmax_covers_all_exactly(data: str, scheme: str) -> None:
    x, layer = DATA[data].double(), found_in(DATA[data], scheme, "absmax")
    most = {"e4m3": 448.0, "e5m2": 57344.0}.get(scheme, 127.0)
    if scheme in ("int8-affine", "uint8"):
        low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
        assert layer.scale == np.float32((high - low) / 255)
        step = float(layer.scale)
        assert abs(layer.low - low) <= 0.51 * step
        assert abs(layer.high - high) <= 0.51 * step
    else:
        assert layer.scale == np.float32(float(x.abs().max()) / most)
        assert layer.zero_point == 0
    assert layer.clipped == 0
    assert layer.scale.dtype == np.float32


def test_absmax_needs_no_histogram() -> None:
    x = torch.randn(50, 7)
    layer = profile_of(x, measure=()).qparams("int8", "absmax", per="channel")["0"]
    np.testing.assert_array_equal(layer.scale, (x.abs().amax(0).double() / 127).float().numpy())
    assert (layer.channel_dim, layer.scale.shape, layer.clipped) == (1, (7,), 0.0)
    assert layer.sqnr is None


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("q", [0.9, 0.99, 0.9999])
def test_percentiles_clip_the_share_that_is_asked_for(data: str, q: float) -> None:
    x = DATA[data].double().numpy()
    hair = 2.0**-4  # of a number: the bins of the default resolution
    layer = found_in(DATA[data], "int8", "percentile", q=q)
    assert float(layer.high) == pytest.approx(np.quantile(np.abs(x), q), rel=hair)
    layer = found_in(DATA[data], "uint8", "percentile", q=q)
    low, high = (min(np.quantile(x, (1 - q) / 2), 0), max(np.quantile(x, (1 + q) / 2), 0))
    off = hair * max(high, -low) + float(layer.scale)
    assert layer.low == pytest.approx(low, abs=off)
    assert layer.high == pytest.approx(high, abs=off)
    beyond = np.mean((x < layer.low - layer.scale / 2) | (x > layer.high + layer.scale / 2))
    assert layer.clipped == pytest.approx(beyond, abs=0.25 * (1 - q) + 1e-5)


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_mse_is_near_the_best_of_all_ranges(data: str, scheme: str) -> None:
    x = DATA[data]
    sample = x[:40_000]
    layer = found_in(sample, scheme, "mse")
    low, high = min(float(sample.min()), 0.0), max(float(sample.max()), 0.0)
    factors = 2.0 ** -np.arange(0, 5, 0.1)
    best = min(coded(sample, scheme, low * f, high * f) for f in factors)
    if SCHEMES[scheme].affine:  # one end alone
        best = min(best, *(coded(sample, scheme, low * f, high) for f in factors))
        best = min(best, *(coded(sample, scheme, low, high * f) for f in factors))
    assert error_of(sample, layer) <= 1.03 * best


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_expected_errors_are_those_of_the_numbers(data: str, scheme: str) -> None:
    x = DATA[data]
    row = next(rows_of(profile_of(x.view(-1, 1))["0"], "tensor"))
    for factor in (1.0, 0.7, 0.3, 0.1):
        low, high = row.low * factor, row.high * factor
        expected = float(expect_error(row, SCHEMES[scheme], np.array([low]), np.array([high]))[0])
        # Where a few numbers are clipped, what is known of these few decides.
        assert expected == pytest.approx(coded(x, scheme, low, high), rel=0.08)


@pytest.mark.parametrize("data", ["normal", "heavy", "gelu"])
def test_expected_sqnr_is_met(data: str) -> None:
    x, layer = DATA[data], found_in(DATA[data], "int8", "mse")
    met = 10 * np.log10(float(x.double().square().mean()) / error_of(x, layer))
    assert layer.sqnr == pytest.approx(met, abs=0.1)


def migacz(counts: NDArray[np.float64], levels: int) -> int:
    """The bins that are kept, as Migacz 2017 writes it down: a loop over thresholds."""
    best, divergence = len(counts), np.inf
    for kept in range(levels, len(counts) + 1, 8):
        wanted = counts[:kept].copy()
        wanted[-1] += counts[kept:].sum()
        made = np.zeros(kept)
        ends = [-(-level * kept // levels) for level in range(levels + 1)]
        for begin, end in pairwise(ends):
            part = counts[begin:end]
            if part.any():
                made[begin:end][part > 0] = part.sum() / (part > 0).sum()
        if made[-1] == 0 and wanted[-1] > 0:
            continue
        p, q = wanted / wanted.sum(), made / made.sum()
        found = sum(a * np.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)
        if found < divergence:
            best, divergence = kept, found
    return best


@pytest.mark.parametrize("data", ["normal", "heavy", "relu", "gelu"])
def test_entropy_is_near_what_raw_numbers_give(data: str) -> None:
    x = DATA[data].double().abs().numpy()
    counts = np.histogram(x[x > 0], 2048, (0, x.max()))[0].astype(float)
    threshold = x.max() * migacz(counts, 128) / 2048
    layer = found_in(DATA[data], "int8", "entropy")
    assert float(layer.high) == pytest.approx(threshold, rel=0.1)


@pytest.mark.parametrize(("scheme", "levels"), [("int8", 128), ("uint8", 256)])
def test_entropy_keeps_as_many_bins_as_there_are_codes_of_a_sign(scheme: str, levels: int) -> None:
    x = draw(3).abs() ** 9  # where most of the range holds next to nothing
    layer = found_in(x, scheme, "entropy")
    assert float(layer.high) == pytest.approx(float(x.max()) * levels / 2048, rel=1e-6)


def test_divergences_are_those_of_the_definition() -> None:
    counts = np.random.default_rng(0).integers(0, 5, 400).astype(float)
    kept = range(128, 401, 8)
    divergences = [_diverge(counts, bins, 128) for bins in kept]
    assert kept[int(np.argmin(divergences))] == migacz(counts, 128)


def test_each_channel_has_its_own_scale() -> None:
    x = torch.randn(3000, 5, 4, 1) * torch.tensor([1.0, 10, 0.1, 3, 1e-3]).view(1, 5, 1, 1)
    found = profile_of(x, "channel").qparams("int8", "mse", per="channel")["0"]
    assert (found.scale.shape, found.zero_point.shape) == ((5,), (5,))
    for channel in range(5):
        alone = found_in(x[:, channel].reshape(-1), "int8", "mse")
        assert found.scale[channel] == alone.scale
    whole = profile_of(x, "channel").qparams("int8", "mse")["0"]
    assert whole.scale == profile_of(x).qparams("int8", "mse")["0"].scale
    y = found.fake_quantize(x)
    for channel in range(5):
        step = float(found.scale[channel])
        assert (y[:, channel] - x[:, channel]).abs().median() < step / 2


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("method", METHODS)
def test_what_shows_one_number_or_none_is_listed_and_loses_nothing(
    scheme: str, method: str
) -> None:
    if scheme in ("e4m3", "e5m2") and method == "entropy":
        return
    x = torch.randn(500, 5)
    x[:, 1], x[:, 2], x[:, 3], x[:, 4] = 0.0, 300.0, -1e-30, torch.nan
    qparams = profile_of(x, "channel").qparams(scheme, method, per="channel")
    assert qparams.neutral == {"0": [1, 2, 3, 4]}
    assert qparams["0"].scale[[1, 4]].tolist() == [1, 1]
    back = qparams["0"].fake_quantize(x)
    torch.testing.assert_close(back[:, 1:4], x[:, 1:4], rtol=1e-6, atol=0)
    assert "one number or none was seen of 0 (4 channels)" in str(qparams)
    whole = profile_of(torch.zeros(5, 2)).qparams(scheme, method)
    assert (whole.neutral, float(whole["0"].scale)) == ({"0": [0]}, 1.0)


@pytest.mark.parametrize("method", METHODS)
def test_what_is_not_finite_does_not_enter(method: str) -> None:
    x = torch.randn(4000, 2)
    spoiled = torch.cat([x, torch.tensor([[torch.nan, torch.inf], [-torch.inf, torch.nan]])])
    ours, clean = (profile_of(each).qparams("uint8", method)["0"] for each in (spoiled, x))
    assert (ours.scale, ours.zero_point) == (clean.scale, clean.zero_point)


def test_scales_are_floats_that_divide() -> None:
    for number in (1e-45, 3e38, 1e300, 5e-324):
        x = torch.tensor([[number], [-number]], dtype=torch.float64)
        for scheme in SCHEMES:
            scale = profile_of(x).qparams(scheme, "absmax")["0"].scale
            assert 0 < scale < np.inf


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"scheme": "int4"}, "no such groups"),
        ({"scheme": "int16"}, "closest: int8"),
        ({"scheme": "int8", "method": "kl"}, "choose absmax, percentile, mse, entropy"),
        ({"scheme": "e4m3", "method": "entropy"}, "which e4m3 has not"),
        ({"scheme": ["int8"]}, "choose int8"),
        ({"scheme": "int8", "method": None}, "choose absmax"),
        ({"scheme": "int8", "per": "row"}, "'tensor' or 'channel'"),
        ({"scheme": "int8", "method": "mse", "q": 0.9}, "leave it out"),
        ({"scheme": "int8", "method": "percentile", "q": 99.9}, "share of numbers"),
        ({"scheme": "int8", "layers": "conv*"}, "layers"),
        ({"scheme": "int8", "per": "channel"}, "histogram='channel'"),
    ],
)
def test_what_cannot_be_is_refused(arguments: dict[str, object], told: str) -> None:
    with pytest.raises(FmstatsError, match=told.replace("*", r"\*")):
        profile_of(torch.randn(10, 2)).qparams(**arguments)


@pytest.mark.parametrize("method", ["percentile", "mse", "entropy"])
def test_a_missing_histogram_says_what_to_ask_for(method: str) -> None:
    profile = profile_of(torch.randn(10, 2), measure="abs")
    with pytest.raises(FmstatsError, match=r"track\(\.\.\., measure='histogram'\)"):
        profile.qparams("int8", method)


def test_layers_are_chosen_by_names_and_globs() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    with torch.no_grad(), fmstats.track(model) as tracker:
        model(torch.randn(5, 3))
    profile = tracker.stats()
    assert list(profile.qparams("int8", "absmax")) == ["0", "1", "2"]
    assert list(profile.qparams("int8", "absmax", layers=["2", "[01]"])) == ["0", "1", "2"]
    assert list(profile.qparams("int8", "absmax", layers="1")) == ["1"]
