"""The watched pass: what autograd keeps, what is left of it, and what cannot be run."""

from __future__ import annotations

import random

import analysis_models
import pytest
import torch
from test_analysis_formulas import Doing
from torch import Tensor, nn

import fmstats
from fmstats.errors import FmstatsError

DEVICES = pytest.mark.parametrize("device", ["meta", "cpu"])


def kept_by_autograd(model: nn.Module, *inputs: Tensor) -> int:
    """Bytes of all storages that a real pass in training saves, parameters and buffers left out."""
    model.train()
    owned = {t.untyped_storage().data_ptr() for t in [*model.parameters(), *model.buffers()]}
    kept = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in owned:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = model(*inputs)
    del output
    return sum(storage.nbytes() for storage in kept.values())


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.b(self.a(x)).relu_()
        return torch.cat([x * y, y.flip(-1)], dim=1).sigmoid()


def tiny_vit() -> nn.Module:
    pytest.importorskip("transformers", reason="needs transformers")
    return analysis_models.from_transformers(
        "ViT", num_hidden_layers=2, hidden_size=64, num_attention_heads=4, image_size=64
    )


SAVED = {
    "MLP": (lambda: nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)), (3, 8)),
    "in-place ReLU": (lambda: nn.Sequential(nn.Linear(8, 16), nn.ReLU(True)), (3, 8)),
    "GELU keeps its input": (lambda: nn.Sequential(nn.Linear(8, 16), nn.GELU()), (3, 8)),
    "dropout": (lambda: nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.5)), (3, 8)),
    "pooling": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2)), (2, 3, 12, 12)),
    "residual": (Residual, (2, 4, 8, 8)),
    "frozen": (
        lambda: nn.Sequential(nn.Linear(8, 8).requires_grad_(False), nn.Linear(8, 4)),
        (3, 8),
    ),
    "attention": (lambda: nn.TransformerEncoderLayer(16, 4, 32, 0.0, batch_first=True), (2, 5, 16)),
    "GRU": (lambda: nn.GRU(8, 16), (5, 3, 8)),
    "VGG block": (analysis_models.vgg_block, (1, 3, 32, 32)),
    "MobileNetV2": (analysis_models.mobilenet_v2, (2, 3, 32, 32)),
    "ViT": (tiny_vit, (2, 3, 64, 64)),
    "weight norm": (
        *(lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(8, 8))),),
        (3, 8),
    ),
}


@DEVICES
@pytest.mark.parametrize("name", SAVED)
def test_what_autograd_keeps(name: str, device: str) -> None:
    make, size = SAVED[name]
    model = make()
    found = fmstats.analyze(model, input_size=size, device=device)
    assert found.totals["saved_for_backward_bytes"] == kept_by_autograd(model, torch.randn(size))
    assert found.notes == ()


def test_the_work_space_of_a_fused_lstm_is_told_of() -> None:
    model = nn.LSTM(8, 16)
    x = torch.randn(5, 3, 8)
    real = fmstats.analyze(model, x, device="cpu")
    assert real.totals["saved_for_backward_bytes"] == kept_by_autograd(model, x)
    fake = fmstats.analyze(model, x)
    assert "lacks the workspace of the fused LSTM" in fake.notes[0]
    assert fake.notes[0] in fake.summary()


def test_a_frozen_model_keeps_nothing() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU()).requires_grad_(False)
    totals = fmstats.analyze(model, input_size=(3, 8)).totals
    assert totals["saved_for_backward_bytes"] == 0
    assert (totals["params"], totals["trainable_params"]) == (72, 0)


def test_a_model_for_inference_alone() -> None:
    class Picky(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            if self.training:
                raise RuntimeError("give targets")
            return super().forward(x)

    found = fmstats.analyze(Picky(4, 4).eval(), input_size=(2, 4))
    assert found.totals["saved_for_backward_bytes"] == 2 * 4 * 4
    assert found.notes == (
        "Picky does not run in training mode: memory for backward is of eval mode",
    )
    without = Doing(lambda x: nn.functional.linear(x, torch.ones(4, 4, requires_grad=True)).numpy())
    found = fmstats.analyze(without, input_size=(2, 4), device="cpu")
    assert found.totals["saved_for_backward_bytes"] is None
    assert "does not run with gradients" in found.notes[0]
    assert "kept for backward" not in found.summary()


class Stateful(nn.Module):
    """All that a forward pass may leave behind."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 4, 3))
        self.norm, self.drop, self.head = nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Linear(4, 2)
        self.register_buffer("calls", torch.zeros(()))
        self.cache: Tensor | None = None
        self.drop.eval()
        self.fail = False

    def forward(self, x: Tensor) -> Tensor:
        self.calls = self.calls + 1
        self.cache = self.drop(self.norm(self.conv(x)))
        self.extra = torch.rand(3)
        if self.fail:
            raise RuntimeError("half-way")
        return self.head(self.cache.mean((2, 3)))


@DEVICES
@pytest.mark.parametrize("fail", [False, True])
def test_the_model_comes_back_as_it_was(fail: bool, device: str) -> None:
    model = Stateful()
    model.fail = fail
    state = {name: (t, t.clone()) for name, t in model.state_dict(keep_vars=True).items()}
    attributes = [dict(vars(m)) for m in model.modules()]
    training = [m.training for m in model.modules()]
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    x = torch.randn(2, 3, 8, 8)
    before = x.clone()
    generator, fast = torch.get_rng_state(), torch.backends.mha.get_fastpath_enabled()
    python = random.getstate()
    if fail:
        with pytest.raises(FmstatsError, match="the model raised RuntimeError: half-way"):
            fmstats.analyze(model, x, device=device)
    else:
        fmstats.analyze(model, x, device=device)
    for name, tensor in model.state_dict(keep_vars=True).items():
        assert tensor is state[name][0]
        assert torch.equal(tensor, state[name][1])
    after = [dict(vars(m)) for m in model.modules()]
    for a, b in zip(attributes, after, strict=True):
        assert a.keys() == b.keys()
        assert all(a[key] is b[key] for key in a)
    assert model.cache is None
    assert [m.training for m in model.modules()] == training
    assert hooks == [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    assert torch.equal(torch.get_rng_state(), generator)
    assert random.getstate() == python
    assert torch.backends.mha.get_fastpath_enabled() == fast
    assert torch.equal(x, before)
    assert torch.is_grad_enabled()
    model.fail = False
    assert type(model(x)) is Tensor


@DEVICES
def test_inputs_are_not_written_into(device: str) -> None:
    x = torch.randn(2, 4)
    before = x.clone()
    fmstats.analyze(nn.Sequential(nn.ReLU(inplace=True)), x, device=device)
    assert torch.equal(x, before)


DEPENDING = {
    "nonzero": lambda x: x.nonzero(),
    "item": lambda x: x * x.sum().item(),
    "branch": lambda x: x if x.sum() > 0 else -x,
    "mask": lambda x: x[x > 0],
    "unique": lambda x: x.unique(),
    "list": lambda x: torch.tensor(x.tolist()),
    "numpy": lambda x: torch.tensor(x.detach().numpy()),
}


@pytest.mark.parametrize("name", DEPENDING)
def test_what_depends_on_values_needs_numbers(name: str) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(Doing(DEPENDING[name])))
    with pytest.raises(FmstatsError, match=r"^layer '1.0'.*analyze\(..., device='cpu'\)"):
        fmstats.analyze(model, input_size=(4, 4))
    assert fmstats.analyze(model, input_size=(4, 4), device="cpu").totals["flops"] == 128


def test_lazy_modules_have_no_sizes_yet() -> None:
    model = nn.Sequential(nn.LazyLinear(4), nn.ReLU())
    with pytest.raises(FmstatsError, match=r"lazy modules.*'0'.*run it on one batch first"):
        fmstats.analyze(model, input_size=(2, 3))
    model(torch.zeros(2, 3))
    assert fmstats.analyze(model, input_size=(2, 3)).totals["flops"] == 2 * 2 * 12


def test_numbers_are_needed_where_they_are_asked_for() -> None:
    with torch.device("meta"):
        model = nn.Linear(4, 4)
    with pytest.raises(FmstatsError, match=r"Linear is on the meta device.*to_empty\(device='cpu'"):
        fmstats.analyze(model, input_size=(2, 4), device="cpu")


def test_wrong_sizes_name_the_layer() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(10, 2))
    with pytest.raises(
        FmstatsError, match=r"layer '2' raised RuntimeError.*\(1, 3, 8, 8\) float32"
    ):
        fmstats.analyze(model, input_size=(1, 3, 8, 8))


def test_an_error_that_the_model_catches() -> None:
    class Careful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bad, self.good = nn.Linear(3, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            try:
                return self.bad(x)
            except RuntimeError:
                return self.good(x)

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.careful = Careful()

        def forward(self, x: Tensor) -> Tensor:
            return self.careful(x) @ torch.ones(4, 2)

    found = fmstats.analyze(Outer(), input_size=(2, 4))
    flops = {row.name: row.flops for row in found.rows}
    assert flops == {"careful.good": 64, "(model)": 32, "careful.bad": 0}
    assert found["careful.bad"].output_shape is None


def test_shapes_that_do_not_fit_are_told_once(capfd) -> None:
    with pytest.raises(FmstatsError):
        fmstats.analyze(nn.Linear(3, 4), input_size=(2, 4))
    assert capfd.readouterr() == ("", "")


def test_hooks_of_the_model_are_part_of_it() -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    model[0].register_forward_pre_hook(lambda module, args: (args[0] @ torch.ones(3, 4),))
    model[0].register_forward_hook(lambda module, args, output: output @ torch.ones(4, 5))
    row = fmstats.analyze(model, input_size=(2, 3))["0"]
    assert row.output_shape == (2, 5)
    assert row.flops == 2 * (2 * 3 * 4 + 2 * 4 * 4 + 2 * 4 * 5)


def test_a_tracked_model_can_be_analyzed() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    with fmstats.track(model) as tracker:
        model(torch.randn(1, 3, 8, 8))
        before = tracker.stats()
        fmstats.analyze(model, input_size=(1, 3, 8, 8))
        after = tracker.stats()
    assert str(after) == str(before)
    assert (after["0"].count == 36).all()


class Merging(nn.Linear):
    """A low-rank adapter that is part of the weight in evaluation mode, as loralib's are."""

    def __init__(self) -> None:
        super().__init__(4, 4)
        self.down, self.up = nn.Parameter(torch.ones(2, 4)), nn.Parameter(torch.ones(4, 2))
        self.merged = False

    def train(self, mode: bool = True) -> Merging:
        if mode == self.merged:
            self.weight.data += (-1 if mode else 1) * (self.up @ self.down)
            self.merged = not mode
        return super().train(mode)

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y if self.merged else y + x @ self.down.T @ self.up.T


@DEVICES
@pytest.mark.parametrize("training", [True, False])
def test_weights_that_change_with_the_mode(training: bool, device: str) -> None:
    model, x = nn.Sequential(Merging()).train(training), torch.ones(2, 4)
    before, weight = model(x).detach(), model[0].weight
    values = weight.detach().clone()
    found = fmstats.analyze(model, x, device=device)
    assert found["0"].macs == (32 if model[0].merged else 32 + 2 * 16)
    assert (model[0].merged, model.training) == (not training, training)
    assert model[0].weight is weight
    torch.testing.assert_close(weight.detach(), values, rtol=0, atol=1e-6)
    torch.testing.assert_close(model(x), before)
    other = fmstats.analyze(nn.Sequential(Merging()).train(), x, device=device)
    kept = "saved_for_backward_bytes"  # in training mode, whichever mode it was in
    assert found.totals[kept] == other.totals[kept]


@DEVICES
@pytest.mark.parametrize("part", [False, True])
def test_an_exported_program_that_cannot_change_mode(part: bool, device: str) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    x = torch.randn(2, 3, 8, 8)
    exported = torch.export.export(net, (x,)).module()
    model = nn.Sequential(exported, nn.ReLU()) if part else exported
    flags = [module.training for module in model.modules()]
    found = fmstats.analyze(model, x, device=device)
    plain = fmstats.analyze(nn.Sequential(net, nn.ReLU()) if part else net, x, device=device)
    for total in ("params", "flops", "saved_for_backward_bytes"):
        assert found.totals[total] == plain.totals[total]
    assert [module.training for module in model.modules()] == flags


@DEVICES
def test_within_other_modes(device: str) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Softmax(-1), nn.MultiheadAttention(4, 2).out_proj)
    plain = fmstats.analyze(model, input_size=(2, 4), device=device).to_dict()
    for mode in (torch.no_grad(), torch.inference_mode()):
        with mode:
            assert fmstats.analyze(model, input_size=(2, 4), device=device).to_dict() == plain


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, of its compiler
@pytest.mark.parametrize("how", ["function", "method", "part"])
def test_compiled_models_are_read_uncompiled(how: str) -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
    if how == "function":
        found = fmstats.analyze(torch.compile(model), input_size=(2, 4))
        assert found.model == "Sequential"
    elif how == "method":
        model.compile()
        found = fmstats.analyze(model, input_size=(2, 4))
    else:
        found = fmstats.analyze(nn.Sequential(torch.compile(model[0]), model[1]), input_size=(2, 4))
    assert found.totals["flops"] == 2 * 2 * 32
    assert [row.type for row in found.rows] == ["Linear", "ReLU"]
