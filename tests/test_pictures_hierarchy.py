"""`visualize_hierarchy`: which layers are stages, and a row for each."""

from __future__ import annotations

from queue import SimpleQueue

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
    wave,
)
from torch import nn

from fmstats.errors import FmstatsError

pytest.importorskip("matplotlib", reason="needs matplotlib")

from fmstats.pictures import visualize_hierarchy
from fmstats.pictures.hierarchy import find_stages
from fmstats.pictures.inputs import read_image


def stages_of(model: nn.Module, x: object = None) -> list[tuple[str, int, str]]:
    found = find_stages(model, read_image(image() if x is None else x))
    return [(stage.layer, stage.channels, stage.size) for stage in found]


def test_the_last_layer_of_each_resolution() -> None:
    expected = [("1", 4, "16x16"), ("4", 8, "8x8"), ("7", 12, "4x4"), ("8", 12, "2x2")]
    assert stages_of(made_stages()) == expected


def test_one_pass_and_values_of_that_pass() -> None:
    model, passes = made_stages(), SimpleQueue()  # which the copy that runs has in common
    model.register_forward_pre_hook(lambda *_: passes.put(1))
    stages = find_stages(model, read_image(image()))
    assert passes.qsize() == 1
    assert np.array_equal(stages[1].values, model[:5](image()[None])[0].detach().numpy())


class Network(nn.Module):
    """An encoder with a gate in its midst, a decoder, and a layer called at two resolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.relu = nn.ReLU()
        self.down = nn.Conv2d(4, 6, 2, stride=2)
        self.up = nn.Upsample(scale_factor=4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = self.relu(x * self.pool(x))
        return self.up(self.relu(self.down(x)))


def test_gates_and_decoders_are_no_stages() -> None:
    assert stages_of(Network()) == [("relu", 4, "16x16"), ("relu", 6, "8x8")]


def test_windows_are_no_stages() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), Given(wave(8, 4, 2, 2)))
    assert stages_of(model) == [("0", 4, "16x16")]


def test_strips_are_stages() -> None:
    model = nn.Sequential(nn.Conv1d(2, 4, 3), nn.MaxPool1d(2))
    assert stages_of(model, (wave(1, 2, 20),)) == [("0", 4, "1x18"), ("1", 4, "1x9")]


def test_rows_labels_and_marks() -> None:
    model = made_stages()
    figure = visualize_hierarchy(model, image(), channels=5)
    rows = [axes for axes in figure.axes if axes.images]
    assert len(rows) == 4 + 5 + 5 + 5  # the first layer has 4 channels
    written = " ".join(text.get_text() for text in figure.texts)
    for label in ("4x16x16", "8x8x8", "12x4x4", "12x2x2"):
        assert label in written
    for axes in rows[:4]:
        channel = int(axes.get_title().split()[1])
        expected = model[:2](image()[None])[0, channel].detach()
        assert np.array_equal(axes.images[0].get_array().data, expected.double().numpy())
    assert hooks_of(model) == 0
    check_texts(figure)
    check_texts_beside_maps(figure)


def test_chosen_layers_keep_their_order() -> None:
    figure = visualize_hierarchy(made_stages(), image(), ["6", "10", "0"], channels=2)
    names = [t.get_text() for t in figure.texts if t.get_fontweight() == "bold"]
    assert [name for name in names if name in ("6", "10", "0")] == ["6", "10", "0"]
    check_texts(figure)
    assert len(visualize_hierarchy(made_stages(), image(), "6", channels=1).axes) == 1


def test_names_and_numbers_of_any_length_stay_apart() -> None:
    long = nn.Sequential()
    long.add_module("a_name_of_some_forty_characters_at_least", Given(wave(1, 9, 5, 5) * -1.234e10))
    long.add_module("b", nn.Conv2d(9, 9, 3, padding=1))
    with torch.no_grad():
        long.b.weight.zero_()
    check_texts(visualize_hierarchy(long, image(), list(dict(long.named_children()))))


def test_labels_may_be_higher_than_maps() -> None:
    class Add(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1

    add = Add()
    model = nn.Sequential(Tokens(wave(1, 11, 3)), add, add, Tokens(wave(1, 11, 3)))
    check_texts(visualize_hierarchy(model, image(), ["0", "1", "3"]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": ["0", "99"]}, "layer '99' is none of the 12 modules of Sequential"),
        ({"layers": []}, "name at least one layer"),
        ({"channels": 0}, "channels=0: give a whole number"),
    ],
)
def test_wrong_requests(options: dict, message: str) -> None:
    with pytest.raises(FmstatsError, match=message):
        visualize_hierarchy(made_stages(), image(), **options)


def test_a_network_without_maps() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    with pytest.raises(FmstatsError, match="none of the 2 leaf modules of Sequential has maps"):
        visualize_hierarchy(model, (torch.ones(1, 4),))
