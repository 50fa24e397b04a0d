"""Weights are loaded whole or not at all, and the error names what does not fit."""

from __future__ import annotations

import pytest
import torch

from fmstats.errors import FmstatsError
from fmstats.sources import load_weights


def make_net(width: int = 4) -> torch.nn.Sequential:
    return torch.nn.Sequential(torch.nn.Conv2d(3, width, 3), torch.nn.BatchNorm2d(width))


class Tied(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(3, 3, bias=False)
        self.second = torch.nn.Linear(3, 3, bias=False)
        self.second.weight = self.first.weight


def assert_equal_weights(left, right):
    for (name, a), b in zip(left.state_dict().items(), right.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": state, "optimizer": {}},
        lambda state: {f"module.{name}": value for name, value in state.items()},
        lambda state: {f"_orig_mod.module.{name}": value for name, value in state.items()},
    ],
    ids=["plain", "state_dict", "model", "ddp", "compiled ddp"],
)
@pytest.mark.parametrize("suffix", [".pth", ".pt"])
def test_torch_files(tmp_path, wrap, suffix):
    trained, fresh = make_net(), make_net()
    torch.save(wrap(trained.state_dict()), tmp_path / f"w{suffix}")
    load_weights(fresh, tmp_path / f"w{suffix}")
    assert_equal_weights(trained, fresh)


def test_safetensors_file(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    trained, fresh = make_net(), make_net()
    safetensors.save_file(trained.state_dict(), tmp_path / "w.safetensors")
    load_weights(fresh, str(tmp_path / "w.safetensors"))
    assert_equal_weights(trained, fresh)


def test_a_model_that_is_itself_wrapped_keeps_its_prefix(tmp_path):
    trained, fresh = (
        torch.nn.ModuleDict({"module": make_net()}),
        torch.nn.ModuleDict({"module": make_net()}),
    )
    torch.save(trained.state_dict(), tmp_path / "w.pt")
    load_weights(fresh, tmp_path / "w.pt")
    assert_equal_weights(trained, fresh)


def test_tied_tensor_may_be_stored_once(tmp_path):
    torch.save({"first.weight": torch.eye(3)}, tmp_path / "w.pt")
    tied = Tied()
    load_weights(tied, tmp_path / "w.pt")
    assert torch.equal(tied.second.weight, torch.eye(3))


def test_batch_counters_may_be_missing(tmp_path):
    state = make_net().state_dict()
    state["1.running_mean"].fill_(7)
    del state["1.num_batches_tracked"]
    torch.save(state, tmp_path / "w.pt")
    fresh = make_net()
    load_weights(fresh, tmp_path / "w.pt")
    assert torch.equal(fresh.state_dict()["1.running_mean"], state["1.running_mean"])
    assert torch.equal(fresh.state_dict()["0.weight"], state["0.weight"])


def test_names_and_shapes_that_differ_leave_the_model_alone(tmp_path):
    state = make_net(width=5).state_dict()
    state["head.weight"] = state.pop("0.bias")
    torch.save(state, tmp_path / "w.pt")
    model, before = make_net(), make_net()
    before.load_state_dict(model.state_dict())
    with pytest.raises(FmstatsError) as caught:
        load_weights(model, tmp_path / "w.pt")
    text = str(caught.value)
    assert "do not fit the model: 0.bias missing; head.weight unexpected; " in text
    assert "0.weight (5, 3, 3, 3) for (4, 3, 3, 3), 1.weight (5,) for (4,)" in text
    assert "of another shape" in text
    assert_equal_weights(model, before)


def test_long_lists_are_cut(tmp_path):
    torch.save({f"x{i}": torch.zeros(1) for i in range(9)}, tmp_path / "w.pt")
    with pytest.raises(FmstatsError, match=r"x0, x1, x2, x3, x4 and 4 more unexpected"):
        load_weights(make_net(), tmp_path / "w.pt")


def test_wrong_files(tmp_path):
    with pytest.raises(FmstatsError, match=r"there is no weights file '.*absent.pth'"):
        load_weights(make_net(), tmp_path / "absent.pth")
    with pytest.raises(FmstatsError, match=r"'w.bin': a file ends in .pth, .pt or .safetensors"):
        load_weights(make_net(), "w.bin")
    torch.save(make_net(), tmp_path / "whole.pt")
    with pytest.raises(FmstatsError, match=r"hold more than tensors.*torch.save\(model.state_dict"):
        load_weights(make_net(), tmp_path / "whole.pt")
    torch.save(torch.zeros(3), tmp_path / "tensor.pt")
    with pytest.raises(FmstatsError, match=r"hold a Tensor, not a state dict"):
        load_weights(make_net(), tmp_path / "tensor.pt")
    (tmp_path / "cut.pt").write_bytes(b"PK\x03\x04cut")
    with pytest.raises(FmstatsError, match=r"cut.pt' (cannot be read|hold more)"):
        load_weights(make_net(), tmp_path / "cut.pt")
    (tmp_path / "cut.safetensors").write_bytes(b"cut")
    with pytest.raises(FmstatsError, match=r"cut.safetensors' cannot be read"):
        load_weights(make_net(), tmp_path / "cut.safetensors")
