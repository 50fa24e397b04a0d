"""Models that are not plain: each is analyzed, or an error names the layer and the way out."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fmstats
from fmstats.errors import FmstatsError

pytestmark = pytest.mark.filterwarnings(
    "ignore:Sparse .* tensor support is in beta state",
    "ignore:Sparse invariant checks are implicitly disabled",
    "ignore:The PyTorch API of nested tensors is in prototype stage",
    "ignore:.*quantized tensor creation functions",
    "ignore::DeprecationWarning",  # of torch.jit
)
DEVICES = pytest.mark.parametrize("device", ["meta", "cpu"])
PRODUCT = 2 * 3 * 4 * 4


class Given(nn.Module):
    """A function of the input, a Linear(4, 4) and what else the model holds."""

    def __init__(self, function: Callable[..., object], held: object = None) -> None:
        super().__init__()
        self.layer, self.function, self.held = nn.Linear(4, 4), function, None
        if isinstance(held, nn.Parameter):
            self.held = held
        elif isinstance(held, Tensor):
            del self.held
            self.register_buffer("held", held)

    def forward(self, x: Tensor) -> object:
        return self.function(self, x)


SPARSE = torch.eye(4) + torch.eye(4)[[1, 2, 3, 0]]
LAYOUTS = {
    "COO": lambda: SPARSE.to_sparse(),
    "CSR": lambda: SPARSE.to_sparse_csr(),
    "CSC": lambda: SPARSE.to_sparse_csc(),
    "BSR": lambda: SPARSE.to_sparse_bsr((2, 2)),
    "parameter": lambda: nn.Parameter(SPARSE.to_sparse()),
}
PRODUCTS = {
    "left": lambda m, x: m.held @ x.T,
    "linear": lambda m, x: F.linear(x, m.held),
    "addmm": lambda m, x: torch.addmm(m.layer.weight[:, :3], m.held, x.T),
}


@DEVICES
@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_sparse_weights(layout: str, product: str, device: str) -> None:
    """Eight of 16 numbers are stored; in blocks all of them."""
    model = Given(PRODUCTS[product], LAYOUTS[layout]())
    found = fmstats.analyze(model, input_size=(3, 4), device=device)
    stored = 16 if layout == "BSR" else 8
    assert found.totals["flops"] == 2 * stored * 3
    assert found.unknown == ()
    if layout != "parameter":
        assert found.totals["buffer_bytes"] < 16 * (4 + 8 + 8)
    assert found.totals["saved_for_backward_bytes"] is not None


def test_sparse_products_of_a_thousandth() -> None:
    """As reported: 800 operations, and not 80,000."""
    weight = torch.zeros(200, 200)
    weight.view(-1)[:: 200 * 200 // 400] = 1
    model = Given(lambda m, x: m.held @ x, weight.to_sparse())
    assert fmstats.analyze(model, input_size=(200, 1)).totals["flops"] == 800


def test_what_becomes_sparse_within_depends_on_values() -> None:
    model = nn.Sequential(Given(lambda m, x: x.to_sparse() @ m.layer.weight))
    x = torch.zeros(3, 4)
    x[0, 0] = 1
    with pytest.raises(FmstatsError, match=r"^layer '0': aten._nnz.*device='cpu'"):
        fmstats.analyze(model, x)
    assert fmstats.analyze(model, x, device="cpu").totals["flops"] == 2 * 4


class Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, w: Tensor) -> Tensor:
        ctx.save_for_backward(x, w)
        return x @ w

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, w = ctx.saved_tensors
        return gradient @ w.T, x.T @ gradient


def gradient_of_input(m: Given, x: Tensor) -> Tensor:
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        return torch.autograd.grad(m.layer(x).sum(), x)[0]


def checkpointed(m: Given, x: Tensor) -> Tensor:
    return torch.utils.checkpoint.checkpoint(m.layer, x, use_reentrant=False)


RUNS: dict[str, tuple[Callable[..., object], int]] = {
    "autograd.Function": (lambda m, x: Product.apply(x, m.layer.weight), PRODUCT),
    "autograd.grad": (gradient_of_input, 2 * PRODUCT),
    "checkpoint": (checkpointed, PRODUCT),
    "vmap": (lambda m, x: torch.vmap(m.layer)(x), PRODUCT),
    "func.grad": (lambda m, x: torch.func.grad(lambda v: m.layer(v).sum())(x), 2 * PRODUCT),
    "jacrev": (lambda m, x: torch.func.jacrev(m.layer)(x[0]), (1 + 4) * PRODUCT // 3),
    "inference mode": (lambda m, x: torch.inference_mode()(m.layer)(x), PRODUCT),
    "complex": (lambda m, x: torch.complex(x, x) @ torch.complex(x, x).T, 8 * 3 * 3 * 4),
    "conjugated": (lambda m, x: torch.complex(x, x).conj() @ torch.complex(x, x).T, 8 * 36),
    "quantized": (lambda m, x: torch.quantize_per_tensor(x, 0.1, 0, torch.quint8).dequantize(), 0),
}


@DEVICES
@pytest.mark.parametrize("name", RUNS)
def test_what_runs_is_counted(name: str, device: str) -> None:
    function, flops = RUNS[name]
    found = fmstats.analyze(Given(function), input_size=(3, 4), device=device)
    assert (found.totals["flops"], found.unknown) == (flops, ())


@torch.library.custom_op("fmstats_odd::real", mutates_args=())
def real_alone(x: Tensor) -> Tensor:
    return 2 * x


@torch.library.custom_op("fmstats_odd::both", mutates_args=())
def with_fake(x: Tensor) -> Tensor:
    return 2 * x


with_fake.register_fake(torch.empty_like)

# What fake tensors cannot do: the operation, and FLOPs on numbers.
NEEDS_NUMBERS: dict[str, tuple[Callable[..., object], int]] = {
    "no fake kernel": (lambda m, x: real_alone(m.layer(x)), PRODUCT),
    "nested": (lambda m, x: m.layer(torch.nested.nested_tensor([x[:2], x])), PRODUCT * 5 // 3),
    "jagged": (
        lambda m, x: m.layer(torch.nested.nested_tensor([x[:2], x], layout=torch.jagged)),
        PRODUCT * 5 // 3,
    ),
    "oneDNN's layout": (lambda m, x: F.linear(x.to_mkldnn(), m.layer.weight.to_mkldnn()), PRODUCT),
    "numpy": (lambda m, x: m.layer(torch.from_numpy(x.numpy())), PRODUCT),
    "a list": (lambda m, x: m.layer(torch.tensor(x.tolist())), PRODUCT),
}


@pytest.mark.parametrize("name", NEEDS_NUMBERS)
def test_what_needs_numbers_says_so(name: str) -> None:
    function, flops = NEEDS_NUMBERS[name]
    if name.startswith("oneDNN") and not torch.backends.mkldnn.is_available():
        pytest.skip("needs oneDNN")
    model = nn.Sequential(Given(function))
    with pytest.raises(FmstatsError, match=r"^layer '0.*analyze\(..., device='cpu'\)"):
        fmstats.analyze(model, input_size=(3, 4))
    found = fmstats.analyze(model, input_size=(3, 4), device="cpu")
    assert found.totals["flops"] == flops
    assert isinstance(str(found), str)


def test_shapes_of_nested_tensors() -> None:
    def jagged(m: Given, x: Tensor) -> Tensor:
        return torch.nested.nested_tensor([x[:2], x], layout=torch.jagged)

    found = fmstats.analyze(Given(jagged), input_size=(3, 4), device="cpu")
    first = found.parts["(model)"].first
    assert first is not None
    assert first.shape == (2, -1, 4)
    nested = Given(lambda m, x: torch.nested.nested_tensor([x[:2], x]))
    first = fmstats.analyze(nested, input_size=(3, 4), device="cpu").parts["(model)"].first
    assert first is not None
    assert first.shape is None


def test_products_of_nested_tensors_have_no_count() -> None:
    def attend(m: Given, x: Tensor) -> Tensor:
        rows = torch.nested.nested_tensor([x[:2], x])
        return torch.bmm(rows, rows.transpose(1, 2))

    found = fmstats.analyze(Given(attend), input_size=(3, 4), device="cpu")
    assert [u.operation for u in found.unknown] == ["bmm"]


@DEVICES
def test_custom_operations_are_named_in_full(device: str) -> None:
    model = nn.Sequential(Given(lambda m, x: with_fake(m.layer(x))))
    found = fmstats.analyze(model, input_size=(3, 4), device=device)
    assert [(u.operation, u.layers) for u in found.unknown] == [("fmstats_odd.both", ("0",))]
    assert found.totals["flops"] == PRODUCT


@DEVICES
@pytest.mark.parametrize(
    "script", [torch.jit.script, lambda m: torch.jit.trace(m, torch.ones(3, 4))]
)
def test_scripted_parts(script: Callable[[nn.Module], nn.Module], device: str) -> None:
    part = script(nn.Sequential(nn.Linear(4, 5), nn.ReLU()).eval())
    found = fmstats.analyze(nn.Sequential(nn.Linear(4, 4), part), input_size=(3, 4), device=device)
    assert [(row.name, row.params, row.macs) for row in found.rows] == [
        ("0", 20, 48),
        ("1", 25, 60),
    ]


def test_a_frozen_script() -> None:
    part = torch.jit.freeze(torch.jit.script(nn.Sequential(nn.Linear(4, 5), nn.ReLU()).eval()))
    found = fmstats.analyze(nn.Sequential(part), input_size=(3, 4), device="cpu")
    assert [(row.name, row.params, row.macs) for row in found.rows] == [("0", 25, 60)]
