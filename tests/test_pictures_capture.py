"""Looking into a model while it runs."""

from __future__ import annotations

from queue import SimpleQueue

import pytest
import torch
from picture_models import hooks_of, image, made_stages, wave
from torch import nn

from fmstats.errors import FmstatsError
from fmstats.pictures.capture import capture, find_layer, look_at, run, watch
from fmstats.pictures.inputs import OneImage, read_image
from fmstats.sources.batches import ModelInput


def test_several_layers_by_one_pass() -> None:
    model, passes = made_stages(), SimpleQueue()  # which the copy that runs has in common
    model.register_forward_pre_hook(lambda *_: passes.put(1))
    found = capture(model, read_image(image()), ["7", "0"])
    assert list(found) == ["7", "0"]
    assert passes.qsize() == 1
    assert (found["0"].type, found["0"].channels, found["0"].size) == ("Conv2d", 4, "16x16")


def test_the_first_float_tensor_of_an_output() -> None:
    class Pair(nn.Module):
        def forward(self, x: torch.Tensor) -> dict[str, object]:
            return {"ids": x.long(), "maps": (x * 2, x * 3)}

    found = capture(nn.Sequential(Pair()), read_image(image()), ["0"])
    assert torch.equal(torch.from_numpy(found["0"].values), image() * 2)


def test_the_dtype_of_the_model_is_used() -> None:
    model = nn.Sequential(nn.Conv2d(3, 2, 1)).to(torch.bfloat16)
    found = capture(model, read_image(image()), ["0"])["0"]
    expected = model(image()[None].bfloat16())[0].float().detach()
    assert torch.equal(torch.from_numpy(found.values), expected)
    tokens = OneImage(ModelInput((torch.tensor([[1, 2, 0, 3]]),)), None)
    assert capture(nn.Sequential(nn.Embedding(4, 6)), tokens, ["0"])["0"].size == "2x2"


def test_lazy_models_can_be_trained_after() -> None:
    model = nn.Sequential(nn.LazyConv2d(4, 3))
    capture(model, read_image(image()), ["0"])
    model(image()[None]).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


def test_no_graph_is_built() -> None:
    model, seen, enabled = made_stages(), [], SimpleQueue()
    model.register_forward_pre_hook(lambda *_: enabled.put(torch.is_grad_enabled()))
    with look_at(model) as copies:
        with watch(copies.model, ["0"], lambda _name, x, _dim: seen.append(x)):
            run(copies, ModelInput((image()[None],)), "it")
        assert hooks_of(copies.model) == 1
    assert (enabled.get(), enabled.qsize()) == (False, 0)
    assert not seen[0].requires_grad
    assert hooks_of(model) == 1


def test_what_is_no_layer() -> None:
    with pytest.raises(FmstatsError, match="layer '33' is none of the 12 modules of Sequential"):
        find_layer(made_stages(), "33")
    with pytest.raises(FmstatsError, match="layer 3 is none of"):
        find_layer(made_stages(), 3)
    with pytest.raises(FmstatsError, match=r"model is of type str, not an nn\.Module"):
        find_layer("model", "0")


def test_modules_that_hold_each_other_have_names_as_far_as_they_differ() -> None:
    model = nn.Sequential(nn.Sequential(nn.ReLU()))
    model[0].add_module("owner", model)
    assert find_layer(model, "0.0")[1] is model[0][0]
    with pytest.raises(FmstatsError, match="none of the 3 modules"):
        find_layer(model, "0.owner")


def test_the_error_tells_how_else_to_give_an_input() -> None:
    model = nn.Sequential(nn.Conv1d(2, 3, 3))
    with pytest.raises(FmstatsError, match=r"give any other input as a tuple \(x,\)"):
        capture(model, read_image(wave(1, 2, 9)), ["0"])
    assert capture(model, read_image((wave(1, 2, 9),)), ["0"])["0"].size == "1x7"
