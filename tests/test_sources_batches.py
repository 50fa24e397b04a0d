"""What a batch means: its arguments, its samples, how it is cut and moved."""

from __future__ import annotations

from collections import UserDict, namedtuple

import numpy as np
import pytest
import torch

from fmstats.errors import FmstatsError
from fmstats.sources.batches import ModelInput, read_batch, read_batches

X, Y = torch.arange(12.0).view(4, 3), torch.arange(4)
Pair = namedtuple("Pair", ["image", "label"])


@pytest.mark.parametrize(
    ("batch", "args", "kwargs"),
    [
        (X, (X,), {}),
        (X.numpy(), (X,), {}),
        ((X, Y), (X,), {}),
        ([X], (X,), {}),
        (Pair(X, Y), (X,), {}),
        (((X, Y), Y), (X, Y), {}),
        ([[X, Y], Y], (X, Y), {}),
        ([Pair(X, Y), Y], (Pair(X, Y),), {}),
        ({"x": X, "flag": True}, (), {"x": X, "flag": True}),
        (UserDict(x=X), (), {"x": X}),
        (({"x": X}, Y), (), {"x": X}),
        ({"images": [X, X]}, (), {"images": [X, X]}),
    ],
)
def test_forms(batch, args, kwargs):
    found = read_batch(batch, 1)
    torch.testing.assert_close(found.args, args, rtol=0, atol=0)
    assert found.kwargs.keys() == kwargs.keys()
    for name, value in kwargs.items():
        torch.testing.assert_close(found.kwargs[name], value, rtol=0, atol=0)
    assert read_batch(found, 1) is found


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ("text", "batch 7 is of type str: a batch is a tensor, a tuple or list whose first"),
        (None, "batch 7 is of type NoneType"),
        ((), "batch 7 is of type empty tuple"),
        ({1: X}, "batch 7 is a dict with the key 1: its keys are the names of the model's"),
        (np.array(["a"]), "dtype <U1 cannot be a tensor"),
    ],
)
def test_wrong_forms(batch, message):
    with pytest.raises(FmstatsError, match=message):
        read_batch(batch, 7)


@pytest.mark.parametrize(
    ("batch", "samples"),
    [
        (X, 4),
        ({"scale": 2.0, "x": X}, 4),
        ({"images": [X, X, X]}, 3),
        (torch.tensor(3.0), 1),
        ({"x": None}, 1),
    ],
)
def test_samples(batch, samples):
    assert read_batch(batch, 1).samples == samples


def test_cut_keeps_what_is_not_per_sample():
    inputs = ModelInput((X, 0.5), {"mask": Y, "texts": ["a", "b", "c", "d"]})
    short = inputs.cut(3)
    assert torch.equal(short.args[0], X[:3])
    assert short.args[1] == 0.5
    assert torch.equal(short.kwargs["mask"], Y[:3])
    assert short.kwargs["texts"] == ["a", "b", "c"]
    assert inputs.cut(4) is inputs
    ambiguous = ModelInput((X, torch.zeros(2, 9)))
    assert ambiguous.cut(3) is ambiguous


def test_limit_reads_no_batch_in_vain():
    read = []

    def give():
        for number in range(10):
            read.append(number)
            yield X

    sizes = [inputs.samples for inputs in read_batches(give(), 6)]
    assert sizes == [4, 2]
    assert read == [0, 1]
    assert sum(inputs.samples for inputs in read_batches(give())) == 40


def test_move_casts_floats_only():
    inputs = ModelInput((X.view(1, 3, 2, 2).double(),), {"ids": [Y, {"deep": X.half()}], "n": 3})
    moved = inputs.to(torch.device("cpu"), torch.bfloat16, channels_last=True)
    assert moved.args[0].dtype == torch.bfloat16
    assert moved.args[0].is_contiguous(memory_format=torch.channels_last)
    assert moved.kwargs["ids"][0].dtype == torch.int64
    assert moved.kwargs["ids"][1]["deep"].dtype == torch.bfloat16
    assert moved.kwargs["n"] == 3
    kept = inputs.to(None, None, channels_last=False)
    assert kept.args[0].dtype == torch.float64


def test_named_tuples_keep_their_type():
    packed = torch.nn.utils.rnn.pack_sequence([torch.ones(3, 2), torch.ones(2, 2)])
    inputs = read_batch([packed, Y], 1).to(None, torch.float64, channels_last=False)
    assert isinstance(inputs.args[0], torch.nn.utils.rnn.PackedSequence)
    assert inputs.args[0].data.dtype == torch.float64


def test_foreign_numpy_memory():
    swapped = X.numpy().astype(">f4")
    swapped.flags.writeable = False
    assert torch.equal(read_batch(swapped, 1).args[0], X)


def test_description():
    inputs = ModelInput((X,), {"ids": Y, "images": [X, X], "scale": 2.0})
    assert inputs.describe() == "(4, 3) float32, ids: (4,) int64, images: list of 2, scale: float"
    assert ModelInput().describe() == "nothing"
