"""`overlay`: the enlarged map, on the picture the model saw."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from picture_models import Given, Tokens, check_texts, image, made_stages, wave
from torch import nn

from fmstats.errors import FmstatsError

pytest.importorskip("matplotlib", reason="needs matplotlib")

from fmstats.pictures import overlay
from fmstats.pictures.overlays import enlarge


def test_the_map_is_enlarged_to_the_picture() -> None:
    model = made_stages()
    figure = overlay(model, image(), "3", 5)
    picture, drawn = figure.axes[0].images
    expected = model[:4](image()[None])[:, 5:6].detach().double()
    large = F.interpolate(expected, size=(16, 16), mode="bilinear", align_corners=False)
    assert np.array_equal(drawn.get_array().data, large[0, 0].numpy())
    assert drawn.get_clim() == (float(expected.min()), float(expected.max()))
    grey = image().permute(1, 2, 0).numpy() @ np.array([0.299, 0.587, 0.114], np.float32)
    assert np.allclose(picture.get_array(), grey)
    assert len(figure.axes) == 2  # with the colour bar
    assert f"ch 5: {expected.min():.4g} to {expected.max():.4g}" in figure.get_suptitle()
    check_texts(figure)


def test_what_is_not_finite_stays_where_it_is() -> None:
    plane = np.array([[1.0, np.nan], [1.0, np.inf]])
    large = enlarge(plane, 4, 4)
    assert np.array_equal(large[:, :2], np.ones((4, 2)))
    assert np.isnan(large[:, 2:]).all()
    assert np.isnan(enlarge(np.full((2, 2), np.nan), 4, 4)).all()


@pytest.mark.parametrize(
    "layer",
    [
        Given(torch.full((1, 2, 3, 3), float("nan"))),
        Given(wave(1, 2, 1, 1)),
        Given(wave(1, 2) * 1e10),
        Tokens(wave(1, 17, 2)),
        Given(torch.full((1, 2, 3, 3), 1e30)),
    ],
)
@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 40, 4)])
def test_odd_maps_on_odd_pictures(layer: nn.Module, shape: tuple[int, ...]) -> None:
    check_texts(overlay(nn.Sequential(layer), wave(*shape), "0", 1))


def test_wrong_requests() -> None:
    with pytest.raises(FmstatsError, match="layer '0' has 4 channels, none of them 4: choose from"):
        overlay(made_stages(), image(), "0", 4)
    with pytest.raises(FmstatsError, match="maps of 1x7, strips without a place"):
        overlay(nn.Sequential(Tokens(wave(1, 7, 3))), image(), "0", 0)
    with pytest.raises(
        FmstatsError, match=r"needs a picture below its map, and the input is \(1, "
    ):
        overlay(nn.Sequential(nn.Conv1d(2, 3, 1)), (wave(1, 2, 9),), "0", 0)
