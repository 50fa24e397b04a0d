"""`top_images`: the right images, in the right order, and no more of them in memory than asked."""

from __future__ import annotations

import weakref
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from picture_models import Tokens, check_texts, hooks_of, made_stages, wave
from torch import nn

from fmstats.errors import FmstatsError
from fmstats.pictures import TopImages, top_images

DATA = wave(23, 3, 16, 16, step=1.37) * torch.linspace(1, 3, 23).roll(5).view(-1, 1, 1, 1)


@pytest.mark.parametrize("by", ["max", "mean"])
@pytest.mark.parametrize("size", [1, 5, 23])
def test_the_best_of_all(by: str, size: int) -> None:
    model = made_stages()
    maps = model[:4](DATA)[:, 2].detach().double()
    scores = maps.amax((1, 2)) if by == "max" else maps.mean((1, 2))
    found = top_images(model, DATA.split(size), "3", 2, 6, by=by)
    best = scores.argsort(descending=True, stable=True)[:6].tolist()
    assert [top.index for top in found] == best
    for top in found:
        assert top.score == pytest.approx(float(scores[top.index]), rel=1e-6)
        assert torch.equal(top.image, DATA[top.index])
        assert np.allclose(top.map, maps[top.index], atol=1e-5)
    assert (len(found), found.samples, found.channel) == (6, 23, 2)
    assert found[0].score >= found[-1].score


class First(nn.Module):
    """A map of one value: the first of the image."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :1, :1, :1]


def found_of(values: list[float], size: int = 2, **options) -> TopImages:
    x = torch.tensor(values).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)
    return top_images(nn.Sequential(First()), x.split(size), "0", 0, **options)


def test_of_equal_scores_the_earlier_image_wins() -> None:
    for size in (1, 2, 3, 6):
        found = found_of([1.0, 5.0, 5.0, 1.0, 5.0, 5.0], size, k=3)
        assert [top.index for top in found] == [1, 2, 4]


def test_nan_never_wins_and_infinities_are_numbers() -> None:
    nan, inf = float("nan"), float("inf")
    found = found_of([nan, 1.0, nan, -inf, inf, nan], k=5)
    assert [top.index for top in found] == [4, 1, 3]
    nothing = found_of([nan, nan])
    assert len(nothing) == 0
    pytest.importorskip("matplotlib")
    with pytest.raises(FmstatsError, match="none of the 2 samples has a score"):
        nothing.figure()


def test_no_more_than_k_images_and_a_batch_are_kept() -> None:
    alive: list[weakref.ref[torch.Tensor]] = []

    def batches() -> Iterator[torch.Tensor]:
        for number in range(8):
            # The one before is still the loop's own.
            assert sum(ref() is not None for ref in alive) <= 1
            batch = DATA[:4] + number
            alive.append(weakref.ref(batch.untyped_storage()))
            yield batch

    found = top_images(made_stages(), batches(), "1", 0, 3)
    assert sum(ref() is not None for ref in alive) == 0
    for top in found:
        assert top.image.untyped_storage().nbytes() == top.image.numel() * 4
        assert top.map.base is None


def test_the_data_and_the_model_come_back_as_they_were() -> None:
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(3, 4, 1), nn.Dropout()).train()
    before = DATA.clone()
    found = top_images(model, DATA, "1", 0, 2)
    assert torch.equal(DATA, before)
    assert torch.equal(found[0].image, DATA[found[0].index])
    assert hooks_of(model) == 0
    assert all(module.training for module in model.modules())


def test_the_forms_of_data_of_a_profile(tmp_path) -> None:
    np.save(tmp_path / "x.npy", DATA.numpy())
    labelled = [(x, torch.zeros(len(x))) for x in DATA.split(7)]
    for data in (DATA, DATA.numpy(), [DATA], labelled, str(tmp_path / "x.npy")):
        assert [t.index for t in top_images(made_stages(), data, "3", 2, 2)] == [
            t.index for t in top_images(made_stages(), DATA, "3", 2, 2)
        ]
    assert top_images(made_stages(), DATA.split(5), "3", 2, limit=7).samples == 7


def test_figure() -> None:
    pytest.importorskip("matplotlib")
    for k in (1, 10):
        found = top_images(made_stages(), DATA.split(5) if k > 1 else DATA, "3", 2, k)
        figure = found.figure()
        axes = [axes for axes in figure.axes if axes.images]
        assert len(axes) == 2 * k  # a picture and its map
        assert {a.images[1].get_clim() for a in axes[1::2]} == {
            (min(float(t.map.min()) for t in found), max(float(t.map.max()) for t in found))
        }
        written = [text.get_text() for text in figure.texts]
        assert f"image {found[0].index}: {found[0].score:.4g}" in written
        check_texts(figure)


def test_figure_of_inputs_that_are_no_pictures() -> None:
    pytest.importorskip("matplotlib")
    model = nn.Sequential(nn.Conv1d(2, 4, 3))
    found = top_images(model, (wave(1, 6, 2, 12) * 1e10)[0], "0", 1, 3)
    figure = found.figure(cmap="cividis")
    assert len([axes for axes in figure.axes if axes.images]) == 3
    check_texts(figure)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k=0: give a whole number, 1 or more"),
        ({"limit": 0}, "limit=0: give a whole number"),
        ({"by": "sum"}, "by='sum': choose from max, mean"),
        ({"layer": "99"}, "layer '99' is none of the 12 modules"),
        ({"channel": 8}, "layer '3' has 8 channels, none of them 8"),
        ({"data": []}, "the data gave no batch"),
        ({"data": [DATA, torch.zeros(2, 5, 4, 4)]}, r"refused batch 2, \(2, 5, 4, 4\) float32"),
        ({"data": "nowhere"}, "data 'nowhere' does not exist"),
    ],
)
def test_wrong_requests(options: dict, message: str) -> None:
    model = made_stages()
    asked = {"data": DATA, "layer": "3", "channel": 0, **options}
    with pytest.raises(FmstatsError, match=message):
        top_images(model, **asked)
    assert hooks_of(model) == 0


def test_a_layer_that_mixes_samples_is_refused() -> None:
    with pytest.raises(FmstatsError, match="gave 9 items along dim 0 for a batch of 23 samples"):
        top_images(nn.Sequential(Tokens(wave(9, 4, 3))), DATA, "0", 0)
    with pytest.raises(FmstatsError, match="channels in dim 0"):
        top_images(nn.Sequential(Tokens(wave(3))), DATA, "0", 0)
