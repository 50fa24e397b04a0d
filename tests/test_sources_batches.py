"""What a batch means: its arguments, its samples, how it is cut and moved."""

from __future__ import annotations

from collections import UserDict, namedtuple

import numpy as np
import pytest
import torch

from fmstats.errors import FmstatsError
from fmstats.sources.batches import (
    ModelInput,
    Stack,
    find_batch_dim,
    read_batch,
    read_batches,
)

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


TIME = torch.zeros(7, 4, 3)  # time, batch, features


@pytest.mark.parametrize(
    ("batch", "samples"),
    [
        # A lone tensor may be one unbatched sample, or have its samples along another dim.
        (X, None),
        (torch.zeros(3, 16, 16), None),
        ([X], None),
        ({"scale": 2.0, "x": X}, None),
        (torch.tensor(3.0), None),
        ({"x": None}, None),
        ({"images": [X, X, X]}, None),
        # What the entries share, labels among them.
        ((X, Y), 4),
        ((X.numpy(), Y.numpy()), 4),
        (((X, Y), None), 4),
        ({"x": X, "mask": X > 0}, 4),
        (({"images": [X, X, X]}, ["a", "b", "c"]), 3),
        ((X, {"boxes": Y}), None),
        # A single number beside larger entries is none for each sample.
        (((torch.ones(1), X, Y), Y), 4),
        (((torch.ones(1), X), None), None),
        ((X[:1], Y[:1]), 1),
        ((torch.ones(1, 6), torch.ones(5)), None),
        # Sizes that differ do not tell.
        ((torch.zeros(3, 16, 16), torch.zeros(16, 16)), None),
        (((TIME, torch.zeros(1, 4, 5)), None), None),
        ((TIME, Y), None),
        (torch.nn.utils.rnn.pack_sequence([X, X[:2]]), 2),
        ([torch.nn.utils.rnn.pack_sequence([X, X[:2]]), Y], None),
    ],
)
def test_samples(batch, samples):
    batch = [batch] if isinstance(batch, tuple) and hasattr(batch, "_fields") else batch
    assert read_batch(batch, 1).samples == samples


@pytest.mark.parametrize(
    ("batch", "dim", "samples"),
    [
        (X, 0, 4),
        (X, -1, 3),
        (TIME, 1, 4),
        ([TIME], 0, 7),
        (((TIME, torch.zeros(1, 4, 5)), Y), 1, 4),
        (((torch.ones(1), X), Y[:2]), 0, 4),
        (((X, X[:3]), Y), 0, None),
        (X, 2, None),
        ({"images": [X, X, X]}, 0, 3),
    ],
)
def test_samples_along_a_dim_that_is_known(batch, dim, samples):
    assert read_batch(batch, 1, dim).samples == samples
    known = ModelInput((X,), batch_dim=1)
    assert read_batch(known, 1, dim) is known


def test_a_stack_holds_samples():
    stack = ModelInput((X,), stacked=True)
    assert stack.samples == 4
    assert torch.equal(stack.cut(3).args[0], X[:3])
    assert ModelInput((X, torch.zeros(3)), stacked=True).samples is None


class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 5

    def __getitem__(self, place):
        return X[0]


def test_which_iterables_know_the_dim_of_samples():
    loader = torch.utils.data.DataLoader
    assert find_batch_dim(loader(Rows(), batch_size=2)) == 0
    assert find_batch_dim(loader(Rows(), batch_size=None)) is None  # samples, one by one
    assert find_batch_dim(loader(Rows(), batch_size=2, collate_fn=torch.stack)) is None
    assert find_batch_dim(Stack(X, 2)) == 0
    assert find_batch_dim([X]) is None
    sizes = [inputs.samples for inputs in read_batches(loader(Rows(), batch_size=2))]
    assert sizes == [2, 2, 1]
    assert [len(batch) for batch in Stack(X, 3)] == [3, 1]


def test_cut_keeps_what_is_not_per_sample():
    temperature = torch.ones(1)
    inputs = ModelInput((X, 0.5, temperature), {"mask": Y, "texts": ["a", "b", "c", "d"]}, (Y,))
    short = inputs.cut(3)
    assert torch.equal(short.args[0], X[:3])
    assert short.args[1:] == (0.5, temperature)
    assert torch.equal(short.kwargs["mask"], Y[:3])
    assert short.kwargs["texts"] == ["a", "b", "c"]
    assert torch.equal(short.labels[0], Y[:3])
    assert short.samples == 3
    assert inputs.cut(4) is inputs
    unknown = ModelInput((X, torch.zeros(2, 9)))
    assert unknown.cut(3) is unknown
    assert ModelInput((X,)).cut(3).args[0] is X


def test_cut_along_another_dim():
    state = torch.zeros(1, 4, 5)
    short = ModelInput((TIME, state), batch_dim=1).cut(3)
    assert [tuple(value.shape) for value in short.args] == [(7, 3, 3), (1, 3, 5)]
    assert short.samples == 3


def test_limit_reads_no_batch_in_vain():
    read = []

    def give():
        for number in range(10):
            read.append(number)
            yield X

    sizes = [inputs.samples for inputs in read_batches(give(), 6, 0)]
    assert sizes == [4, 2]
    assert read == [0, 1]
    assert sum(inputs.samples for inputs in read_batches(give(), batch_dim=0)) == 40


def test_a_limit_needs_samples_that_are_known():
    with pytest.raises(
        FmstatsError, match=r"nothing tells how many batch 1 has, \(4, 3\) float32: "
    ):
        list(read_batches([X], 3))
    with pytest.raises(FmstatsError, match=r"say along which dim they run, batch_dim=0 for the"):
        list(read_batches([X], 3))


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
