"""`plot_profile`: what is drawn is what the profile says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from picture_models import check_texts, image, made_stages, wave
from torch import nn

import fmstats
from fmstats.errors import FmstatsError

pytest.importorskip("matplotlib", reason="needs matplotlib")

from fmstats.pictures import plot_profile
from fmstats.pictures.depth import standardise_means


def profile_of(model: nn.Module, x: torch.Tensor | None = None) -> fmstats.Profile:
    given = torch.stack([image(), image().flip(-1) * 2]) if x is None else x
    return fmstats.profile(model, given, backend="torch")


def test_lines_are_those_of_the_profile() -> None:
    profile = profile_of(nn.Sequential(*made_stages(), nn.Sigmoid()))
    figure = plot_profile(profile)
    rows = profile.layers()
    means, shares, heat = figure.axes[:3]
    mean = means.lines[-1].get_ydata()
    assert np.array_equal(mean, [row["mean"] for row in rows])
    band = means.collections[0].get_datalim(means.transData)
    assert band.y1 == pytest.approx(max(row["mean"] + row["mean_spread"] for row in rows))
    zeros, dead, saturated = (line.get_ydata() for line in shares.lines)
    assert np.array_equal(zeros, [100 * row["sparsity"] for row in rows])
    assert np.array_equal(dead, [100 * row["dead"] / row["channels"] for row in rows])
    assert list(shares.lines[2].get_xdata()) == [len(rows) - 1]  # the Sigmoid alone has bounds
    assert list(saturated) == [100 * rows[-1]["saturated"]]
    assert np.array_equal(heat.images[0].get_array().filled(np.nan), standardise_means(profile))
    assert [t.get_text() for t in heat.get_xticklabels()] == list(profile)
    check_texts(figure)


def test_the_heat_map_ranks_and_resamples() -> None:
    profile = profile_of(made_stages()[:9])
    heat = standardise_means(profile)
    assert heat.shape == (12, len(profile))  # as many rows as the widest layer has channels
    assert (np.diff(heat, axis=0) >= 0).all()
    stats, whole = profile["6"], profile["6"].pooled()
    expected = (np.sort(stats.mean) - whole.mean[0]) / whole.std[0]
    column = list(profile).index("6")
    assert np.allclose(heat[:, column], expected)
    first = (np.sort(profile["0"].mean) - profile["0"].pooled().mean[0]) / profile["0"].pooled().std
    column = list(profile).index("0")
    assert np.allclose(heat[[0, -1], column], first[[0, -1]])  # both ends of four channels


@pytest.mark.parametrize("scale", [0.0, 1e-12, -1.234e10, float("nan"), float("inf")])
def test_texts_are_apart_whatever_the_values(scale: float) -> None:
    model = nn.Sequential(nn.Identity(), nn.ReLU6(), nn.Linear(4, 3))
    check_texts(plot_profile(profile_of(model, wave(8, 4) * scale)))


@pytest.mark.parametrize("layers", [1, 160])
def test_many_layers(layers: int) -> None:
    model = nn.Sequential(*(nn.Identity() for _ in range(layers)))
    inner = nn.Sequential()
    inner.add_module("a_block_with_a_name_of_forty_characters_", model)
    figure = plot_profile(profile_of(inner, wave(8, 4)))
    assert figure.get_figwidth() < 15
    check_texts(figure)


def test_layers_of_other_sizes_get_a_logarithmic_axis() -> None:
    class Grow(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 1e6

    model = nn.Sequential(nn.Identity(), nn.Identity(), nn.Identity(), Grow())
    figure = plot_profile(profile_of(model, wave(8, 4)))
    assert figure.axes[0].get_yscale() == "symlog"
    assert plot_profile(profile_of(model[:3], wave(8, 4))).axes[0].get_yscale() == "linear"
    check_texts(figure)


def test_what_is_no_profile() -> None:
    with pytest.raises(FmstatsError, match="takes a Profile, got dict"):
        plot_profile({})
    with pytest.raises(FmstatsError, match="the profile has no layer"):
        plot_profile(fmstats.Profile({}, {}))


@pytest.mark.parametrize("scope", ["layer", "channel"])
def test_quantiles_have_a_panel_where_they_were_measured(scope: str) -> None:
    x = torch.stack([image(), image().flip(-1) * 2])
    model = nn.Sequential(*made_stages())
    plain = profile_of(model, x)
    profile = fmstats.profile(model, x, backend="torch", measure="histogram", histogram=scope)
    figure = plot_profile(profile)
    assert len(figure.axes) == len(plot_profile(plain).axes) + 1
    rows, axes = profile.layers(), figure.axes[1]
    assert np.array_equal(axes.lines[-1].get_ydata(), [row["p50"] for row in rows])
    wide, narrow = (band.get_datalim(axes.transData) for band in axes.collections)
    assert (wide.y0, wide.y1) == (min(r["p1"] for r in rows), max(r["p99"] for r in rows))
    assert wide.y0 < narrow.y0 < narrow.y1 < wide.y1
    check_texts(figure)


def test_layers_without_histograms_leave_a_gap() -> None:
    x = torch.randn(5, 4)
    measured = fmstats.profile(nn.Identity(), x, backend="torch", measure="histogram")
    plain = fmstats.profile(nn.Identity(), x, backend="torch")
    rows = {"a": measured.info["(model)"], "b": plain.info["(model)"]}
    drawn = plot_profile(fmstats.Profile(rows, {})).axes[1].lines[-1].get_ydata()
    assert np.isfinite(drawn).tolist() == [True, False]
