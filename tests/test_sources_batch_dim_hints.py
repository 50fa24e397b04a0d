"""Layers give hints of the batch dim of a model's inputs; some hints are not used."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fmstats.sources.batch_dim_hints import BatchDimHint, batch_dim_of, collect_hints, find_place
from fmstats.sources.batches import ModelInput


@pytest.mark.parametrize(
    ("layer", "dims", "dim"),
    [
        (nn.Conv1d(2, 2, 1), 3, 0),
        (nn.Conv1d(2, 2, 1), 2, None),
        (nn.Conv2d(2, 2, 1), 4, 0),
        (nn.Conv2d(2, 2, 1), 3, None),
        (nn.ConvTranspose3d(2, 2, 1), 5, 0),
        (nn.ConvTranspose3d(2, 2, 1), 4, None),
        (nn.LazyConv2d(2, 1), 4, 0),
        (nn.BatchNorm1d(2), 2, 0),
        (nn.BatchNorm1d(2), 3, 0),
        (nn.GRU(2, 2), 3, 1),
        (nn.GRU(2, 2), 2, None),
        (nn.LSTM(2, 2, batch_first=True), 3, 0),
        (nn.GRUCell(2, 2), 2, 0),
        (nn.GRUCell(2, 2), 1, None),
        (nn.MultiheadAttention(2, 1), 3, 1),
        (nn.MultiheadAttention(2, 1, batch_first=True), 3, 0),
        (nn.TransformerEncoderLayer(2, 1, 2), 3, 1),
        (nn.TransformerDecoderLayer(2, 1, 2, batch_first=True), 3, 0),
        (nn.MultiheadAttention(2, 1), 2, None),
    ],
)
def test_where_layers_have_the_batch(layer, dims, dim):
    assert batch_dim_of(layer, dims) == dim


@pytest.mark.parametrize("layer", [nn.Linear(2, 2), nn.ReLU(), nn.Embedding(2, 2), nn.LayerNorm(2)])
def test_layers_that_take_any_dims_give_no_hint(layer):
    with pytest.raises(LookupError):
        batch_dim_of(layer, 3)
    with pytest.raises(LookupError):
        batch_dim_of(nn.Conv2d(2, 2, 1), 5)


class Swaps(nn.Module):
    """Takes batch-first sequences, and has its recurrent layer take them time-major."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(3, 2)

    def forward(self, x):
        return self.rnn(x.transpose(0, 1))[0]


class Adds(nn.Module):
    """Takes one image, and gives it a batch dim."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)

    def forward(self, x):
        return self.conv(x[None])


class Folds(nn.Module):
    """Takes videos, and runs their frames as one batch."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)

    def forward(self, x):
        return self.conv(x.flatten(0, 1))


@pytest.mark.parametrize(
    ("model", "shapes", "samples"),
    [
        (nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU()), [(5, 3, 8, 8), (2, 3, 8, 8)], [5, 2]),
        (nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU()), [(3, 8, 8), (3, 9, 9)], [1, 1]),
        (nn.GRU(3, 2), [(50, 4, 3), (20, 2, 3)], [4, 2]),
        (nn.GRU(3, 2, batch_first=True), [(4, 50, 3), (2, 20, 3)], [4, 2]),
        (nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)), [(6, 3)], [6]),
        (Swaps(), [(4, 50, 3)], [None]),
        (Adds(), [(3, 8, 8)], [None]),
        (Folds(), [(2, 5, 3, 8, 8)], [None]),
        (nn.Linear(3, 2), [(4, 3)], [None]),
    ],
)
def test_a_testimony_holds_where_sizes_fit(model, shapes, samples):
    batches = [ModelInput((torch.zeros(shape),)) for shape in shapes]
    with collect_hints(model.eval()) as hints, torch.no_grad():
        model(*batches[0].args)
    place = find_place(batches[0], hints)
    assert [None if place is None else place.count(batch) for batch in batches] == samples
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_testimonies_that_differ_do_not_hold():
    inputs = ModelInput((torch.zeros(4, 7, 3), torch.zeros(9, 3, 5, 5)))
    assert find_place(inputs, [BatchDimHint((4, 7, 3), 0), BatchDimHint((9, 3, 5, 5), 0)]) is None
    place = find_place(inputs, [BatchDimHint((9, 1, 1, 1), 0), BatchDimHint((1, 9, 3), 1)])
    assert place is not None
    assert (place.entry, place.dim, place.count(inputs)) == (1, 0, 9)
    assert place.count(ModelInput((torch.zeros(4, 7, 3),))) is None
    assert find_place(inputs, []) is None


def test_arguments_by_name_are_inputs():
    inputs = ModelInput((), {"scale": 2.0, "x": torch.zeros(4, 3, 8, 8)})
    place = find_place(inputs, [BatchDimHint((4, 3, 8, 8), 0)])
    assert place is not None
    assert place.entry == 1


def test_only_layers_with_a_hint_get_a_hook():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    with collect_hints(model):
        assert [len(layer._forward_pre_hooks) for layer in model] == [0, 1]
    assert [len(layer._forward_pre_hooks) for layer in model] == [0, 0]
