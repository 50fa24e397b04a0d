"""What the model is called with: tensors, sizes, several, by name, of any dtype."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor, nn

import fmstats
from fmstats.errors import FmstatsError

DEVICES = pytest.mark.parametrize("device", ["meta", "cpu"])


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.mix = nn.Embedding(10, 4), nn.Linear(4, 2)

    def forward(self, ids: Tensor, scale: Tensor | None = None, *, times: int = 1) -> Tensor:
        x = self.words(ids)
        for _ in range(times):
            y = self.mix(x if scale is None else x * scale)
        return y


class OfDict(nn.Linear):
    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return super().forward(batch["x"])


class OfOptions(nn.Linear):
    def forward(self, **options: Tensor) -> Tensor:
        return super().forward(options["x"])


def flops(model: nn.Module, *inputs: object, **options: object) -> int:
    return int(fmstats.analyze(model, *inputs, **options).totals["flops"])


@DEVICES
def test_every_form(device: str) -> None:
    ids, scale = torch.ones(3, 5, dtype=torch.long), torch.ones(4)
    each = 2 * 15 * 8
    for inputs in (
        (ids,),
        (ids, scale),
        ({"ids": ids},),
        ({"ids": ids, "scale": scale, "times": 1},),
        (ids.numpy(),),
    ):
        assert flops(Two(), *inputs, device=device) == each
    assert flops(Two(), {"ids": ids, "times": 3}, device=device) == 3 * each
    by_size = {
        "one dtype": {"input_size": (3, 5), "dtype": torch.long},
        "a list": {"input_size": [(3, 5), (4,)], "dtype": [torch.long, torch.float32]},
        "a size as a list": {"input_size": [3, 5], "dtype": torch.int32},
        "a torch.Size": {"input_size": ids.shape, "dtype": torch.long},
        "names": {"input_size": {"ids": (3, 5), "scale": (4,)}, "dtype": {"ids": torch.long}},
    }
    for options in by_size.values():
        assert flops(Two(), **options, device=device) == each


@DEVICES
def test_a_dict_is_keywords_where_they_are_known(device: str) -> None:
    x = torch.ones(3, 4)
    for model in (OfDict(4, 2), OfOptions(4, 2)):
        assert flops(model, {"x": x}, device=device) == 48
        assert flops(model, input_size={"x": (3, 4)}, device=device) == 48


@DEVICES
def test_nested_inputs(device: str) -> None:
    class Nested(nn.Linear):
        def forward(self, pair: tuple[Tensor, list[Tensor]], name: str) -> Tensor:
            assert name == "a"
            return super().forward(pair[0] + pair[1][0])

    x = torch.ones(3, 4)
    assert flops(Nested(4, 2), (x, [x]), "a", device=device) == 48


def test_sizes_take_the_dtype_of_the_parameters() -> None:
    half = fmstats.analyze(nn.Linear(4, 2).half(), input_size=(3, 4))
    assert half.totals["input_bytes"] == 24
    assert half.rows[0].activation_bytes == 12
    assert fmstats.analyze(nn.ReLU(), input_size=(3, 4)).totals["input_bytes"] == 48
    double = fmstats.analyze(nn.ReLU(), torch.ones(3, 4), dtype=torch.float64)
    assert double.totals["input_bytes"] == 96


def test_ids_stay_integers_whatever_the_dtype() -> None:
    ids = torch.ones(3, 5, dtype=torch.long)
    assert flops(Two().half(), ids, dtype=torch.half) == 2 * 15 * 8


def test_only_the_shapes_of_tensors_matter_to_fake_ones() -> None:
    nets = nn.Sequential(nn.Linear(4, 2))
    on_meta = torch.ones(3, 4, device="meta", requires_grad=True)
    assert flops(nets, on_meta) == flops(nets, torch.ones(3, 4)) == 48
    # Ids beyond the table would raise, were anything computed.
    assert flops(Two(), torch.full((3, 5), 99)) == 2 * 15 * 8


@pytest.mark.parametrize(
    ("inputs", "options", "message"),
    [
        ((), {}, "got neither of inputs and input_size: give tensors"),
        ((torch.ones(3, 4),), {"input_size": (3, 4)}, "got both of inputs and input_size"),
        ((), {"input_size": (3, -4)}, "input_size (3, -4) is not a size: give whole numbers"),
        ((), {"input_size": (3.0, 4)}, "is not a size"),
        ((), {"input_size": "3x4"}, "is not a size"),
        ((), {"input_size": {"x": 3}}, "input_size 3 is not a size"),
        (
            *((), {"input_size": (3, 4), "dtype": [torch.float32] * 2}),
            "does not fit 1 sizes: give one, or as many",
        ),
        ((), {"input_size": (3, 4), "dtype": {"x": torch.half}}, "does not fit 1 sizes"),
        (
            *((), {"input_size": {"x": (3, 4)}, "dtype": {"y": torch.half}}),
            "does not fit the inputs x: give one, or a dict by these names",
        ),
        ((torch.ones(3, 4),), {"dtype": [torch.half]}, "beside tensors give one dtype, or none"),
        ((), {"input_size": (3, 4), "dtype": "float32"}, "dtype='float32'"),
    ],
)
def test_mistakes(inputs: tuple[object, ...], options: dict[str, object], message: str) -> None:
    with pytest.raises(FmstatsError, match=re.escape(message)):
        fmstats.analyze(OfOptions(4, 2), *inputs, **options)
