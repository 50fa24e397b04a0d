"""Moving models, and knowing where their inputs belong."""

from __future__ import annotations

import pytest
import torch

from fmstats.errors import FmstatsError
from fmstats.sources.placement import copy_model, find_placement, is_placed, move_model

CPU = torch.device("cpu")


def make_net():
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))


def test_move():
    model = move_model(make_net(), "cpu", torch.float64, channels_last=True)
    assert model[0].weight.dtype == torch.float64
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert model[1].num_batches_tracked.dtype == torch.int64


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ((None, None, False), True),
        (("cpu", torch.float32, False), True),
        (("meta", None, False), False),
        ((None, torch.float16, False), False),
        ((None, None, True), False),
    ],
)
def test_is_placed(request_, expected):
    assert is_placed(make_net(), *request_) is expected
    assert is_placed(torch.nn.ReLU(), *request_) is True


def test_moved_model_is_placed():
    request = ("cpu", torch.bfloat16, True)
    assert is_placed(move_model(make_net(), *request), *request)


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "cpu:x"])
def test_device_that_is_not_here(device):
    with pytest.raises(FmstatsError, match=rf"\(device: {device}, .*devices usable here: cpu"):
        move_model(make_net(), device, None, channels_last=False)


def test_placement_of_inputs():
    assert find_placement(make_net().half(), None, None) == (CPU, torch.float16)
    assert find_placement(make_net(), None, torch.float64) == (CPU, torch.float64)
    assert find_placement(torch.nn.ReLU(), None, None) == (None, None)
    assert find_placement(torch.nn.ReLU(), "cpu", torch.half) == (CPU, torch.half)
    with pytest.raises(FmstatsError, match="device 'gpu' is not understood"):
        find_placement(torch.nn.ReLU(), "gpu", None)


def test_integer_weights_do_not_tell_the_dtype_of_inputs():
    model = torch.nn.Module()
    model.register_buffer("codes", torch.zeros(3, dtype=torch.int8))
    assert find_placement(model, None, None) == (CPU, None)
    model.register_buffer("scale", torch.zeros(3, dtype=torch.bfloat16))
    assert find_placement(model, None, None) == (CPU, torch.bfloat16)


def test_copy_shares_nothing_and_failure_is_explained():
    model = make_net()
    copy = copy_model(model)
    copy[0].weight.data.zero_()
    assert model[0].weight.abs().sum() > 0
    model.cached = model[0].weight * 2  # Not a leaf: PyTorch refuses to copy it.
    with pytest.raises(FmstatsError, match=r"cannot be copied.*move it yourself with model.to"):
        copy_model(model)
