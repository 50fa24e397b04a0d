"""Products against closed forms: quantized, packed, grouped, complex, and of kernels of GPUs.

What no kernel of this machine computes is asked for its shapes alone, on the meta device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from analysis_models import flops_of
from torch import Tensor

from fmstats.analysis.formulas import count_flops

aten = torch.ops.aten


def on_meta(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def counted(operation: Any, args: tuple[object, ...], *shape: int) -> int | None:
    """FLOPs of a call that gives something of this shape, without running it."""
    return count_flops(operation, args, {}, on_meta(*shape))


A, B = torch.ones(3, 4), torch.ones(4, 5)
BATCHED = torch.ones(2, 3, 4), torch.ones(2, 4, 5)
INTO = torch.ones(3, 5)
# How a multiplication and an addition of complex numbers is written, and how many there are.
COMPLEX = {
    "mm": (torch.mm, (A, B), 60),
    "bmm": (torch.bmm, BATCHED, 120),
    "matmul": (torch.matmul, (torch.ones(6, 3, 4), B), 6 * 60),
    "addmm": (torch.addmm, (INTO, A, B), 60),
    "baddbmm": (torch.baddbmm, (torch.ones(2, 3, 5), *BATCHED), 120),
    "addbmm": (torch.addbmm, (INTO, *BATCHED), 120),
    "mv": (torch.mv, (A, torch.ones(4)), 12),
    "addmv": (torch.addmv, (torch.ones(3), A, torch.ones(4)), 12),
    "dot": (torch.dot, (torch.ones(7), torch.ones(7)), 7),
    "vdot": (torch.vdot, (torch.ones(7), torch.ones(7)), 7),
    "addr": (torch.addr, (torch.ones(3, 4), torch.ones(3), torch.ones(4)), 12),
    "einsum": (lambda a, b: torch.einsum("bij,bjk->bik", a, b), BATCHED, 120),
    "linear": (F.linear, (A, B.T), 60),
    "linear, tokens": (F.linear, (torch.ones(2, 3, 4), B.T, torch.ones(5)), 120),
    "bilinear": (F.bilinear, (torch.ones(7, 4), torch.ones(7, 5), torch.ones(6, 4, 5)), 7 * 6 * 24),
    "sparse": (lambda a, b: a.to_sparse() @ b, (A, B), 60),
}
# In place, out of a given tensor: the same.
SAME = {
    "mm": lambda a, b: torch.mm(a, b, out=torch.empty(3, 5, dtype=a.dtype)),
    "addmm": lambda c, a, b: c.clone().addmm_(a, b),
    "baddbmm": lambda c, a, b: c.clone().baddbmm_(a, b),
    "addbmm": lambda c, a, b: c.clone().addbmm_(a, b),
    "addmv": lambda c, a, b: c.clone().addmv_(a, b),
    "addr": lambda c, a, b: c.clone().addr_(a, b),
}


@pytest.mark.parametrize("name", COMPLEX)
def test_a_complex_multiplication_is_four_real_ones(name: str) -> None:
    function, args, macs = COMPLEX[name]
    assert flops_of(function, *args) == 2 * macs
    assert flops_of(function, *(x.to(torch.complex64) for x in args)) == 8 * macs


@pytest.mark.parametrize("name", SAME)
def test_in_place_and_out_of_a_given_tensor(name: str) -> None:
    _, args, macs = COMPLEX[name]
    assert flops_of(SAME[name], *args) == 2 * macs
    assert flops_of(SAME[name], *(x.to(torch.complex64) for x in args)) == 8 * macs


def test_a_complex_convolution_is_the_three_real_ones_that_run() -> None:
    x, w = torch.ones(1, 2, 6, 6), torch.ones(3, 2, 3, 3)
    macs = 3 * 16 * 18
    assert flops_of(F.conv2d, x, w) == 2 * macs
    x, w = x.to(torch.complex64), w.to(torch.complex64)
    assert flops_of(F.conv2d, x, w) == 3 * 2 * macs


INT8 = {"dtype": torch.int8}
PACKED = {
    "_int_mm": (lambda x, w: torch._int_mm(x.to(torch.int8), w), (32, 32), 32 * 32 * 32),
    "_weight_int8pack_mm": (
        lambda x, w: torch._weight_int8pack_mm(x.bfloat16(), w, torch.ones(32).bfloat16()),
        *((4, 32), 4 * 32 * 32),
    ),
}


@pytest.mark.parametrize("name", PACKED)
def test_integers(name: str) -> None:
    function, size, macs = PACKED[name]
    assert flops_of(function, torch.ones(size), torch.ones(32, 32, **INT8)) == 2 * macs


def test_float8() -> None:
    a, b = torch.ones(16, 32).to(torch.float8_e4m3fn), torch.ones(48, 32).to(torch.float8_e4m3fn)
    one = torch.tensor(1.0)
    macs = 16 * 32 * 48
    found = flops_of(lambda: torch._scaled_mm(a, b.T, one, one, out_dtype=torch.bfloat16))
    assert found == 2 * macs


def test_weights_of_four_bits() -> None:
    packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(
        torch.zeros(64, 128, dtype=torch.int32), 8
    )
    x, scales = torch.ones(3, 128), torch.ones(128 // 32, 64, 2)
    run = aten._weight_int4pack_mm_for_cpu
    assert flops_of(run, x, packed, 32, scales) == 2 * 3 * 128 * 64
    for operation in (aten._weight_int4pack_mm, aten._weight_int4pack_mm_with_scales_and_zeros):
        assert counted(operation.default, (on_meta(3, 128), on_meta(8, 8, 32, 4)), 3, 64) == (
            2 * 3 * 128 * 64
        )
    operation = aten._dyn_quant_matmul_4bit.default
    assert counted(operation, (on_meta(3, 128), on_meta(4200), 32, 128, 64), 3, 64) == 2 * 24576


# What is grouped by offsets: (a, b), offsets, multiplications.
GROUPED = {
    "rows": ((6, 8), (3, 8, 16), 6 * 8 * 16),
    "columns": ((3, 4, 8), (8, 16), 4 * 8 * 16),
    "inner": ((4, 8), (8, 16), 4 * 8 * 16),
    "a batch": ((3, 4, 8), (3, 8, 16), 3 * 4 * 8 * 16),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", GROUPED)
def test_grouped(name: str, dtype: torch.dtype) -> None:
    a, b, macs = GROUPED[name]
    last = {"rows": 6, "columns": 16, "inner": 8}.get(name)
    offsets = None if last is None else torch.tensor([2, 3, last], dtype=torch.int32)
    x, y = torch.ones(a, dtype=dtype), torch.ones(b, dtype=dtype)
    assert flops_of(lambda: torch._grouped_mm(x, y, offs=offsets)) == 2 * macs
    for operation in (aten._scaled_grouped_mm, aten._scaled_grouped_mm_v2):
        assert counted(operation.default, (on_meta(*a), on_meta(*b)), 1) == 2 * macs


def test_grouped_by_transformers() -> None:
    pytest.importorskip("transformers", reason="needs transformers")
    from transformers.integrations import moe  # defines the operation

    run = torch.ops.transformers.grouped_mm_fallback
    offsets = torch.tensor([2, 3, 6])
    assert flops_of(run, torch.ones(6, 8), torch.ones(3, 8, 16), offsets) == 2 * 6 * 8 * 16
    assert moe is not None


X, W = on_meta(1, 6, 5, 5), on_meta(4, 6, 3, 3)
TURNED = on_meta(6, 4, 3, 3)  # of a transposed convolution: inputs first
KERNEL, ONES, NONE = [3, 3], [1, 1], [0, 0]
CONVOLUTIONS: dict[str, tuple[Any, tuple[object, ...]]] = {
    "cuDNN": (aten.cudnn_convolution, (X, W, NONE, ONES, ONES, 1, True, False, False)),
    "cuDNN, ReLU": (aten.cudnn_convolution_relu, (X, W, None, ONES, NONE, ONES, 1)),
    "MIOpen": (aten.miopen_convolution, (X, W, None, NONE, ONES, ONES, 1, False, False)),
    "MPS": (aten._mps_convolution, (X, W, None, NONE, ONES, ONES, 1)),
    "NNPACK": (aten._nnpack_spatial_convolution, (X, W, None, NONE)),
    "oneDNN": (aten.mkldnn_convolution, (X, W, None, NONE, ONES, ONES, 1)),
    "slow": (aten._slow_conv2d_forward, (X, W, KERNEL, None, ONES, NONE)),
    "dilated": (aten.slow_conv_dilated2d, (X, W, KERNEL, None, ONES, NONE, ONES)),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions_of_libraries(name: str) -> None:
    operation, args = CONVOLUTIONS[name]
    for overload in map(operation.__getattr__, operation.overloads()):
        assert counted(overload, args, 1, 4, 3, 3) == 2 * 36 * 6 * 9


@pytest.mark.parametrize(
    "operation",
    [
        *(aten.slow_conv_transpose2d, aten.cudnn_convolution_transpose),
        *(aten.miopen_convolution_transpose, aten._mps_convolution_transpose),
    ],
)
def test_transposed_convolutions_of_libraries(operation: Any) -> None:
    assert counted(operation.default, (X, TURNED), 1, 4, 11, 11) == 2 * 25 * 6 * 4 * 9


def test_depthwise_convolutions_of_kernels() -> None:
    weight = on_meta(6, 1, 3, 3)
    args = (X, weight, KERNEL, None, ONES, NONE, ONES)
    assert counted(aten._conv_depthwise2d.default, args, 1, 6, 3, 3) == 2 * 54 * 9
    deep = (on_meta(1, 6, 5, 5, 5), on_meta(6, 1, 3, 3, 3))
    assert counted(aten.conv_depthwise3d.default, deep, 1, 6, 3, 3, 3) == 2 * 6 * 27 * 27


def test_convolution_over_time_first() -> None:
    x, w = torch.ones(7, 2, 3), torch.ones(4, 3, 5)  # (T, N, C), (kernel, C, outputs)
    assert flops_of(torch.conv_tbc, x, w, torch.ones(5)) == 2 * (4 * 2 * 5) * 4 * 3


Q, K, V = on_meta(2, 4, 5, 8), on_meta(2, 4, 7, 8), on_meta(2, 4, 7, 6)
SCORES = 2 * 2 * 4 * 5 * 7  # of each number of a query, or a value


def test_attention_to_values_of_another_width() -> None:
    real = [torch.ones(x.shape) for x in (Q, K, V)]
    assert flops_of(F.scaled_dot_product_attention, *real) == SCORES * (8 + 6)
    for operation in (
        *(
            aten._scaled_dot_product_flash_attention_for_cpu,
            aten._scaled_dot_product_attention_math,
        ),
        *(aten._scaled_dot_product_fused_attention_overrideable,),
        *(aten._scaled_dot_product_attention_math_for_mps,),
    ):
        assert counted(operation.default, (Q, K, V), 1) == SCORES * (8 + 6)


def test_attention_by_position() -> None:
    """Kernels beneath take (N, L, heads, E), and sequences that are packed one after another."""
    q, k, v = (x.transpose(1, 2) for x in (Q, K, V))
    flash, efficient = aten._flash_attention_forward, aten._efficient_attention_forward
    assert counted(flash.default, (q, k, v, None, None, 5, 7), 1) == SCORES * (8 + 6)
    assert counted(efficient.default, (q, k, v, None, None, None, 5, 7), 1) == SCORES * (8 + 6)
    ends = torch.tensor([0, 2, 5])  # of lengths 2 and 3
    packed = (torch.ones(5, 4, 8),) * 3
    alone = 2 * 2 * 4 * 8 * (2 * 2 + 3 * 3)
    assert counted(flash.default, (*packed, ends, ends, 3, 3), 1) == alone
    packed = (torch.ones(1, 5, 4, 8),) * 3
    assert counted(efficient.default, (*packed, None, ends, ends, 3, 3), 1) == alone


def test_attention_backward() -> None:
    """The scores again, and two products for each of the two of the forward pass."""
    heads = (on_meta(2, 4, 5, 8), on_meta(2, 4, 7, 8), on_meta(2, 4, 7, 8))
    for operation in (
        aten._scaled_dot_product_flash_attention_for_cpu_backward,
        aten._scaled_dot_product_fused_attention_overrideable_backward,
    ):
        assert counted(operation.default, (heads[0], *heads), 1) == 5 * SCORES * 8


def test_recurrent_layers_of_libraries() -> None:
    x = on_meta(5, 3, 8)
    layer = [on_meta(64, 8), on_meta(64, 16), on_meta(64), on_meta(64)]
    macs = 15 * 64 * (8 + 16)
    for operation in (aten._cudnn_rnn, aten.miopen_rnn):
        assert counted(operation.default, (x, layer, 4), 1) == 2 * macs
    assert counted(aten._lstm_mps.default, (x, [x, x], layer), 1) == 2 * macs


DISTANCES: dict[str, tuple[Callable[..., Tensor], tuple[Tensor, ...], int]] = {
    "each with each": (F.pdist, (torch.ones(6, 4),), 15 * 4),
    "a grid": (F.affine_grid, (torch.ones(2, 2, 3), [2, 1, 5, 7], False), 2 * 35 * 2 * 3),
    "a grid in space": (F.affine_grid, (torch.ones(1, 3, 4), [1, 1, 5, 7, 2], False), 70 * 3 * 4),
}


@pytest.mark.parametrize("name", DISTANCES)
def test_distances_and_grids(name: str) -> None:
    function, args, macs = DISTANCES[name]
    assert flops_of(function, *args) == 2 * macs


@pytest.mark.skipif(
    not hasattr(F, "linear_cross_entropy"), reason="needs linear_cross_entropy of torch 2.13"
)
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_cross_entropy_in_chunks(reduction: str) -> None:
    x, w = torch.ones(16, 8, requires_grad=True), torch.ones(40, 8, requires_grad=True)
    ids = torch.arange(16)

    def loss() -> Tensor:
        chunked = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=4)
        return F.linear_cross_entropy(x, w, ids, reduction=reduction, options=chunked)

    def in_training() -> Tensor:
        with torch.enable_grad():
            return loss()

    macs = 16 * 8 * 40
    assert flops_of(loss) == 2 * macs
    # Of a mean both gradients are made at once, else they wait for the backward pass.
    assert flops_of(in_training) == 2 * macs * (3 if reduction == "mean" else 1)
