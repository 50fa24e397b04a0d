"""FLOPs against closed forms, on fake tensors and on real ones."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fmstats
from fmstats.analysis.formulas import has_formula
from fmstats.analysis.recorder import Recorder
from fmstats.analysis.records import CHEAP, UNKNOWN

DEVICES = pytest.mark.parametrize("device", ["meta", "cpu"])


class Doing(nn.Module):
    """A model of one function, without parameters."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Tensor) -> object:
        return self.function(*args)


def macs_of(model: nn.Module, *sizes: tuple[int, ...], device: str = "meta") -> int:
    return fmstats.analyze(model.eval(), input_size=list(sizes), device=device).totals["macs"]


# A convolution: (module, input), params, multiplications = outputs x inputs of each.
CONVOLUTIONS = {
    "3x3": (nn.Conv2d(3, 16, 3), (2, 3, 10, 12), 16 * 3 * 9 + 16, 2 * 16 * 8 * 10 * 3 * 9),
    "no bias": (nn.Conv2d(3, 16, 3, bias=False), (2, 3, 10, 12), 432, 2 * 16 * 8 * 10 * 27),
    "1x1": (nn.Conv2d(8, 4, 1), (1, 8, 7, 7), 8 * 4 + 4, 49 * 8 * 4),
    "strided": (nn.Conv2d(3, 8, 7, 2, 3), (1, 3, 32, 32), 8 * 3 * 49 + 8, 8 * 256 * 3 * 49),
    "dilated": (nn.Conv2d(3, 8, 3, dilation=2), (1, 3, 10, 10), 224, 8 * 36 * 27),
    "grouped": (nn.Conv2d(8, 16, 3, groups=4), (1, 8, 6, 6), 16 * 2 * 9 + 16, 16 * 16 * 2 * 9),
    "depthwise": (nn.Conv2d(8, 8, 3, groups=8), (1, 8, 6, 6), 8 * 9 + 8, 8 * 16 * 9),
    "1-d": (nn.Conv1d(4, 6, 5), (2, 4, 12), 4 * 6 * 5 + 6, 2 * 6 * 8 * 4 * 5),
    "3-d": (nn.Conv3d(2, 3, 2), (1, 2, 4, 4, 4), 2 * 3 * 8 + 3, 3 * 27 * 2 * 8),
    # Each input is multiplied with each weight of its channel.
    "transposed": (nn.ConvTranspose2d(6, 4, 3, 2), (1, 6, 5, 5), 6 * 4 * 9 + 4, 25 * 6 * 4 * 9),
    "transposed, grouped": (
        *(nn.ConvTranspose2d(6, 4, 4, 2, groups=2), (1, 6, 5, 5)),
        *(6 * 2 * 16 + 4, 25 * 6 * 2 * 16),
    ),
}


@DEVICES
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(name: str, device: str) -> None:
    layer, size, params, macs = CONVOLUTIONS[name]
    row = fmstats.analyze(layer, input_size=size, device=device).rows[0]
    assert (row.params, row.macs, row.flops) == (params, macs, 2 * macs)


# (module, sizes of inputs), params, multiplications.
LAYERS = {
    "Linear": (nn.Linear(8, 5), [(3, 8)], 45, 3 * 40),
    "Linear, tokens": (nn.Linear(8, 5), [(2, 7, 8)], 45, 14 * 40),
    "Linear, no bias": (nn.Linear(8, 5, bias=False), [(3, 8)], 40, 3 * 40),
    "Linear, a vector": (nn.Linear(8, 5), [(8,)], 45, 40),
    "Bilinear": (nn.Bilinear(4, 5, 6), [(7, 4), (7, 5)], 126, 7 * 6 * (4 * 5 + 4)),
    "BatchNorm2d": (nn.BatchNorm2d(6), [(2, 6, 4, 4)], 12, 0),
    "LayerNorm": (nn.LayerNorm((6, 4)), [(2, 6, 4)], 48, 0),
    "GroupNorm": (nn.GroupNorm(2, 6), [(2, 6, 4)], 12, 0),
    "RMSNorm": (nn.RMSNorm(6), [(2, 6)], 6, 0),
    "PReLU": (nn.PReLU(6), [(2, 6, 4)], 6, 0),
    # At each of 5 steps of 3 samples: gates x hidden x (inputs + hidden).
    "RNN": (nn.RNN(8, 16), [(5, 3, 8)], 16 * (8 + 16) + 32, 15 * 16 * (8 + 16)),
    "GRU": (nn.GRU(8, 16), [(5, 3, 8)], 48 * (8 + 16) + 96, 15 * 48 * (8 + 16)),
    "LSTM": (nn.LSTM(8, 16), [(5, 3, 8)], 64 * (8 + 16) + 128, 15 * 64 * (8 + 16)),
    "LSTM, two layers": (
        *(nn.LSTM(8, 16, 2), [(5, 3, 8)]),
        *(64 * (8 + 16) + 64 * 32 + 256, 15 * 64 * (8 + 16 + 32)),
    ),
    "GRU, both ways": (
        *(nn.GRU(8, 16, bidirectional=True), [(5, 3, 8)]),
        *(2 * (48 * 24 + 96), 2 * 15 * 48 * 24),
    ),
    "LSTM, projected": (
        *(nn.LSTM(8, 16, proj_size=4), [(5, 3, 8)]),
        *(64 * (8 + 4) + 128 + 64, 15 * (64 * (8 + 4) + 64)),
    ),
    "LSTMCell": (nn.LSTMCell(8, 16), [(3, 8)], 64 * 24 + 128, 3 * 64 * 24),
}


@DEVICES
@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("name", LAYERS)
def test_other_layers(name: str, device: str) -> None:
    layer, sizes, params, macs = LAYERS[name]
    totals = fmstats.analyze(layer, input_size=sizes, device=device).totals
    assert (totals["params"], totals["macs"]) == (params, macs)


def attention_macs(batch: int, queries: int, keys: int, width: int) -> int:
    """Projections of queries, keys and values, two products of attention, the projection out."""
    projections = batch * width * width * (2 * queries + 2 * keys)
    return projections + 2 * batch * queries * keys * width


@DEVICES
@pytest.mark.parametrize("training", [False, True])
def test_multihead_attention(device: str, training: bool) -> None:
    layer = nn.MultiheadAttention(16, 4, batch_first=True).train(training)
    q, k = torch.zeros(2, 5, 16), torch.zeros(2, 7, 16)
    found = fmstats.analyze(layer, q, k, k, device=device)
    assert found.totals["macs"] == attention_macs(2, 5, 7, 16)
    # Without the weights asked for, by fused attention, which torch's counter misses on a CPU.
    fused = fmstats.analyze(Doing(lambda q, k: layer(q, k, k, need_weights=False)), q, k)
    assert fused.totals["macs"] == attention_macs(2, 5, 7, 16)


@DEVICES
@pytest.mark.parametrize("norm_first", [False, True])
def test_encoder_layers_in_eval_mode(device: str, norm_first: bool) -> None:
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, norm_first=norm_first)
    encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=not norm_first)
    each = attention_macs(2, 5, 5, 16) + 2 * 2 * 5 * 16 * 32
    assert macs_of(encoder, (2, 5, 16), device=device) == 3 * each
    found = fmstats.analyze(encoder, input_size=(2, 5, 16), device=device)
    assert found["layers.1.linear1"].macs == 2 * 5 * 16 * 32
    assert found["layers.1.self_attn"].macs == attention_macs(2, 5, 5, 16)


@pytest.mark.parametrize("how", ["math", "flash"])
def test_attention_however_it_is_computed(how: str) -> None:
    from torch.nn.attention import SDPBackend, sdpa_kernel

    backend = SDPBackend.MATH if how == "math" else SDPBackend.FLASH_ATTENTION
    net = Doing(lambda q, k: F.scaled_dot_product_attention(q, k, k))
    with sdpa_kernel(backend):
        assert macs_of(net, (2, 4, 5, 8), (2, 4, 7, 8)) == 2 * (2 * 4 * 5 * 7 * 8)


FUNCTIONS = {
    "matmul": (torch.matmul, [(3, 4), (4, 5)], 60),
    "batched": (torch.matmul, [(2, 3, 4), (2, 4, 5)], 120),
    "broadcast": (torch.matmul, [(6, 2, 3, 4), (4, 5)], 12 * 60),
    "matrix and vector": (torch.mv, [(3, 4), (4,)], 12),
    "addmv": (torch.addmv, [(3,), (3, 4), (4,)], 12),
    "dot": (torch.dot, [(7,), (7,)], 7),
    "outer": (torch.addr, [(3, 4), (3,), (4,)], 12),
    "baddbmm": (torch.baddbmm, [(2, 3, 5), (2, 3, 4), (2, 4, 5)], 120),
    "addbmm": (torch.addbmm, [(3, 5), (2, 3, 4), (2, 4, 5)], 120),
    "einsum": (lambda a, b: torch.einsum("bij,bkj->bik", a, b), [(2, 3, 4), (2, 5, 4)], 120),
    "conv2d": (F.conv2d, [(1, 2, 5, 5), (3, 2, 3, 3)], 3 * 9 * 18),
    "distances": (lambda a, b: torch.cdist(a, b, p=1.0), [(30, 4), (40, 4)], 30 * 40 * 4),
    "distances by product": (torch.cdist, [(2, 30, 4), (2, 40, 4)], 2 * 30 * 40 * (4 + 2)),
}


@DEVICES
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functional_operations(name: str, device: str) -> None:
    function, sizes, macs = FUNCTIONS[name]
    found = fmstats.analyze(Doing(function), input_size=sizes, device=device)
    assert found.totals["macs"] == macs
    assert found.rows[0].name == "(model)"


@DEVICES
@pytest.mark.parametrize(
    ("function", "operation"),
    [
        (torch.linalg.matrix_exp, "linalg_matrix_exp"),
        (lambda x: torch.linalg.eigh(x)[0], "_linalg_eigh"),
    ],
)
def test_what_has_no_formula_is_listed(function, operation: str, device: str) -> None:
    net = nn.Sequential(nn.Linear(4, 4), Doing(function))
    found = fmstats.analyze(net, input_size=(4, 4), device=device)
    assert [(u.operation, u.kind, u.calls, u.layers) for u in found.unknown] == [
        (operation, UNKNOWN, 1, ("1",))
    ]
    assert f"Not counted, since no formula is known: {operation} (in 1)" in str(found)


def test_what_no_tool_counts_is_listed_apart() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)).eval()
    found = fmstats.analyze(net, input_size=(1, 3, 8, 8))
    assert found.unknown == ()
    assert {u.kind for u in found.uncounted} == {CHEAP}
    assert {u.layers[0] for u in found.uncounted} == {"1", "2", "3"}


def test_custom_operations_are_unknown() -> None:
    name = "fmstats_tests::thrice"

    @torch.library.custom_op(name, mutates_args=())
    def thrice(x: Tensor) -> Tensor:
        return 3 * x

    thrice.register_fake(torch.empty_like)
    found = fmstats.analyze(Doing(thrice), input_size=(2, 3))
    assert [u.operation for u in found.unknown] == ["fmstats_tests.thrice"]


def test_which_operations_have_a_formula() -> None:
    aten = torch.ops.aten
    for known in (aten.mm.default, aten.dot.default, aten.convolution.default):
        assert has_formula(known)
    for unknown in (aten.relu.default, aten.add.Tensor, aten.view.default):
        assert not has_formula(unknown)


def test_each_call_without_a_formula_is_counted_once() -> None:
    recorder = Recorder("model")
    with recorder:
        torch.ones(3).relu().relu()
    counts = {name: n for (name, _), n in recorder.work["model"].uncounted.items()}
    assert counts["relu"] == 2
