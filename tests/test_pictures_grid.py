"""`visualize`: numbers read back from axes and titles, texts apart, the model as it was."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from picture_models import (
    Given,
    Tokens,
    check_texts,
    check_texts_beside_maps,
    hooks_of,
    image,
    made_stages,
    maps_of,
    wave,
)
from torch import nn

from fmstats.errors import FmstatsError

pytest.importorskip("matplotlib", reason="needs matplotlib")

from fmstats.pictures import grid, visualize

ONE = torch.zeros(1, 1, 4, 4)


def titles(figure) -> list[str]:
    return [axes.get_title() for axes in figure.axes if axes.images]


def shown(output: torch.Tensor, **options) -> object:
    return visualize(nn.Sequential(Given(output)), ONE, "0", **options)


def test_arrays_and_titles_are_those_of_torch() -> None:
    model = made_stages()
    figure = visualize(model, image(), "3", 64)
    expected = model[:4](image()[None])[0].detach()
    found = maps_of(figure)
    assert list(found) == list(range(8))
    for channel, array in found.items():
        assert np.array_equal(array.data, expected[channel].double().numpy())
    for channel, title in enumerate(titles(figure)):
        low, high = expected[channel].min(), expected[channel].max()
        assert title == f"ch {channel}\n{low:.4g} to {high:.4g}"
    assert figure.get_suptitle() == "3 (Conv2d)\n8 channels, 8x8"
    limits = {axes.images[0].get_clim() for axes in figure.axes if axes.images}
    assert limits == {(float(expected.min()), float(expected.max()))}


def test_a_channel_can_have_its_own_colours() -> None:
    output = torch.stack([wave(3, 3), wave(3, 3) * 100])[None]
    own = shown(output, scale="channel")
    limits = [axes.images[0].get_clim() for axes in own.axes if axes.images]
    assert limits == [(float(m.min()), float(m.max())) for m in output[0]]
    assert len(own.axes) == 2  # no colour bar
    assert len(shown(output).axes) == 3


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("index", [0, 1, 2, 3]),
        ("variance", [2, 0, 1, 3]),
        ("mean", [1, 2, 0, 3]),
        ("sparsity", [0, 2, 1, 3]),  # equal ones in order of number
    ],
)
def test_orders(order: str, expected: list[int]) -> None:
    output = torch.tensor(
        [[[0.0, 1.0]], [[7.0, 7.0]], [[0.0, 8.0]], [[float("nan"), float("nan")]]]
    )[None]
    assert list(maps_of(shown(output, order=order))) == expected
    assert list(maps_of(shown(output, order=order, max_channels=2))) == expected[:2]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes_are_shown_as_they_are(dtype: torch.dtype) -> None:
    output = wave(1, 2, 3, 3).to(dtype)
    for channel, array in maps_of(shown(output)).items():
        assert np.array_equal(array.data, output[0, channel].double().numpy())


def test_an_in_place_relu_does_not_change_its_producer() -> None:
    model = made_stages()
    found = maps_of(visualize(model, image(), "0"))
    assert min(array.min() for array in found.values()) < 0


def test_marks() -> None:
    nan, inf = float("nan"), float("inf")
    planes = torch.ones(6, 10, 10)
    planes[0] = 0
    planes[1] = nan
    planes[2, 0, :2] = torch.tensor([nan, inf])
    planes[3] = -inf
    planes[4] = 5
    planes[5, 0] = torch.arange(10)
    figure = shown(planes[None])
    assert titles(figure) == [
        "ch 0 · dead\n0 to 0",
        "ch 1 · NaN\nno finite value",
        "ch 2 · 1 NaN 1 Inf\n1 to 1",
        "ch 3 · Inf\nno finite value",
        "ch 4\n5 to 5",
        "ch 5\n0 to 9",
    ]
    assert {axes.images[0].get_clim() for axes in figure.axes if axes.images} == {(0.0, 9.0)}
    masked = [int(np.ma.getmaskarray(array).sum()) for array in maps_of(figure).values()]
    assert masked == [0, 100, 2, 100, 0, 0]
    bad = figure.axes[0].images[0].get_cmap().get_bad()
    near = min(np.abs(figure.axes[0].images[0].get_cmap()(np.linspace(0, 1, 99)) - bad).sum(1))
    assert near > 0.5
    check_texts(figure)


@pytest.mark.parametrize("scale", ["shared", "channel"])
@pytest.mark.parametrize("value", [0.0, -3.0, 1e-30, 1e30, float("nan"), float("-inf")])
def test_one_value_everywhere(value: float, scale: str) -> None:
    check_texts(shown(torch.full((1, 2, 3, 3), value), scale=scale))


@pytest.mark.parametrize(
    ("channels", "scale"),
    [(1, "shared"), (4, "channel"), (5, "shared"), (16, "shared"), (64, "channel")],
)
def test_texts_are_apart(channels: int, scale: str) -> None:
    sizes = torch.tensor([1e-12, -1.234e10, 0.0, float("nan"), -9.876e-30, 1.0])
    output = wave(1, channels, 6, 6) * sizes.repeat(11)[:channels].view(1, -1, 1, 1)
    output[0, -1] = torch.linspace(-1.234e10, 1e-12, 36).view(6, 6)
    figure = shown(output, max_channels=64, scale=scale, order="sparsity")
    assert len(titles(figure)) == channels
    assert any("-1.234e+10 to 1e-12" in title for title in titles(figure))
    check_texts(figure)
    check_texts_beside_maps(figure)


@pytest.mark.parametrize(
    ("layer", "expected", "size", "note"),
    [
        (Tokens(wave(1, 9, 4)), (3, 3), "3x3", "9 tokens as a grid"),
        (Tokens(wave(1, 10, 4)), (3, 3), "3x3", "without the class token"),
        (Tokens(wave(1, 7, 4)), (1, 7), "1x7", "7 tokens in a row"),
        (Tokens(wave(9, 4)), (3, 3), "3x3", "9 tokens as a grid"),
        (Tokens(wave(1, 4)), (1, 1), "1x1", ""),
        (Given(wave(1, 4)), (1, 1), "1x1", ""),
        (Given(wave(4, 5, 6)), (5, 6), "5x6", ""),
        (Given(wave(8, 4, 5, 6)), (5, 6), "5x6", "the first of 8 along dim 0"),
        (Given(wave(1, 4, 5, 40)), (5, 40), "5x40", ""),
    ],
)
def test_layouts(layer: nn.Module, expected: tuple[int, int], size: str, note: str) -> None:
    figure = visualize(nn.Sequential(layer), ONE, "0")
    assert [array.shape for array in maps_of(figure).values()] == [expected] * 4
    assert f"4 channels, {size}" in figure.get_suptitle()
    assert any(note in text.get_text() for text in figure.texts)
    check_texts(figure)


def test_titles_may_be_wider_than_maps() -> None:
    output = wave(1, 9, 12, 3).double() * 1.234e-300
    figure = shown(output - 9.876e-299)
    assert titles(figure)[0] == "ch 0\n-9.997e-299 to -9.753e-299"
    check_texts(figure)


def test_token_grids_run_along_rows() -> None:
    output = wave(1, 10, 4)
    found = maps_of(visualize(nn.Sequential(Tokens(output)), ONE, "0"))
    assert np.array_equal(found[2].data, output[0, 1:, 2].double().view(3, 3).numpy())


def test_one_and_three_dims() -> None:
    strip = visualize(nn.Sequential(nn.Conv1d(2, 4, 3)), (wave(1, 2, 20),), "0")
    assert [array.shape for array in maps_of(strip).values()] == [(1, 18)] * 4
    conv = nn.Conv3d(1, 2, 1)
    volume = visualize(nn.Sequential(conv), wave(1, 1, 6, 5, 4), "0")
    middle = conv(wave(1, 1, 6, 5, 4))[0, :, 3].detach()
    assert np.array_equal(maps_of(volume)[1].data, middle[1].double().numpy())
    assert any("slice 3 of 6" in text.get_text() for text in volume.texts)


def test_the_channel_dim_can_be_given() -> None:
    output = wave(1, 5, 6, 3)
    found = maps_of(shown(output, channel_dim=-1))
    assert np.array_equal(found[2].data, output[0, :, :, 2].double().numpy())
    with pytest.raises(FmstatsError, match="channel_dim=9"):
        shown(output, channel_dim=9)


def test_the_model_comes_back_as_it_was() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.ReLU())
    model.train()
    model[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    given = image().requires_grad_()
    figure = visualize(model, given, "2")
    assert [m.training for m in model.modules()] == [True, True, False, True, True]
    assert all(torch.equal(before[name], v) for name, v in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert hooks_of(model) == 0
    plain = model.eval()[:2](image()[None])[0].detach()  # dropout was off
    assert np.array_equal(maps_of(figure)[0].data, plain[0].double().numpy())


def test_the_image_comes_back_as_it_was() -> None:
    given = wave(1, 3, 4, 4)
    before = given.clone()
    visualize(nn.Sequential(nn.ReLU(inplace=True)), given, "0")
    assert torch.equal(given, before)


def test_no_hook_is_left_when_the_model_raises() -> None:
    model = made_stages().train()
    with pytest.raises(
        FmstatsError, match=r"the model refused the image, \(1, 7, 16, 16\) float32"
    ):
        visualize(model, torch.zeros(7, 16, 16), "1")
    assert hooks_of(model) == 0
    assert all(module.training for module in model.modules())


def test_a_layer_that_runs_twice_gives_its_last_maps() -> None:
    conv = nn.Conv2d(3, 3, 1)
    figure = visualize(nn.Sequential(conv, nn.ReLU(), conv), image(), "0")
    expected = conv(conv(image()[None]).relu())[0].detach()
    assert np.array_equal(maps_of(figure)[1].data, expected[1].double().numpy())
    assert any("the last of 2 calls" in text.get_text() for text in figure.texts)


class Odd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Conv2d(3, 3, 1)
        self.whole = nn.Identity()
        self.empty = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.whole(x.long())
        self.empty(x[:, :, :0])
        return x


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("unusd", "layer 'unusd' is none of the 4 modules of Odd; closest: unused"),
        ("unused", r"layer 'unused' \(Conv2d\) has no feature maps: it did not run"),
        ("whole", "its output is int64"),
        ("empty", "its output is empty"),
    ],
)
def test_layers_without_maps(layer: str, message: str) -> None:
    model = Odd()
    with pytest.raises(FmstatsError, match=message):
        visualize(model, image(), layer)
    assert hooks_of(model) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_channels": 0}, "max_channels=0: give a whole number, 1 or more"),
        ({"order": "size"}, "order='size': choose from index, variance, mean, sparsity"),
        ({"scale": "log"}, "scale='log': choose from shared, channel"),
        ({"cmap": "virdis"}, "cmap='virdis' is no colour map of matplotlib; closest: viridis"),
        ({"cmap": 3}, "cmap=3: give the name of a colour map"),
        ({"channel_dim": "last"}, "channel_dim='last': choose 'auto' or a dim"),
    ],
)
def test_options_are_checked_and_the_model_never_runs(options: dict, message: str) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError

    model = made_stages()
    model.register_forward_pre_hook(refuse)
    with pytest.raises(FmstatsError, match=message):
        visualize(model, image(), "0", **options)


def test_the_root_and_a_second_name_are_layers() -> None:
    conv = nn.Conv2d(3, 2, 1)
    model = nn.ModuleDict({"a": conv, "b": conv})
    model.forward = lambda x: conv(x)
    assert "b (Conv2d)" in visualize(model, image(), "b").get_suptitle()
    assert "(model) (Sequential)" in visualize(nn.Sequential(conv), image(), "").get_suptitle()


def test_long_names_are_shortened() -> None:
    model = inner = nn.Sequential()
    name = "a_long_name_of_a_block"
    for _ in range(6):
        inner.add_module(name, nn.Sequential())
        inner = inner.get_submodule(name)
    inner.add_module("last", Given(wave(1, 1, 3, 3)))
    figure = visualize(model, ONE, ".".join([name] * 6 + ["last"]))
    assert "…" in figure.get_suptitle()
    assert ".last" in figure.get_suptitle()
    check_texts(figure)


def test_pyplot_stays_out_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # importing it raises
    check_texts(visualize(made_stages(), image(), "0"))


def test_importing_pictures_does_not_import_matplotlib() -> None:
    for path in Path(grid.__file__).parent.glob("*.py"):
        for node in ast.parse(path.read_text()).body:
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not any(name.startswith(("matplotlib", "PIL")) for name in names), path


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(FmstatsError, match=r"visualize\(\) needs matplotlib: pip install 'fmst"):
        visualize(made_stages(), image(), "0")
