"""Count FLOPs of products for which `torch.utils.flop_counter` has no or a wrong formula.

A multiplication and an addition are two FLOPs, here of real numbers; `formulas` makes them eight
where numbers are complex. Each formula takes the arguments of an operation and its result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import flop_registry

from fmstats.analysis.packed import list_packed
from fmstats.analysis.sparse import count_pairs, count_stored

Formula = Callable[[Sequence[Any], Any], int]


def _products_of(first: int, second: int) -> Formula:
    """Make a formula for (..., m, k) times (..., k, n), or vectors, at these arguments."""

    def product(args: Sequence[Any], out: Any) -> int:
        return 2 * count_pairs(args[first], args[second])

    return product


def _sampled(args: Sequence[Any], out: Any) -> int:
    """Count (m, k) times (k, n), only where the sparse first argument stores numbers."""
    return 2 * (count_stored(args[0]) or 0) * int(args[1].shape[-1])


def _outer(args: Sequence[Any], out: Any) -> int:
    return 2 * int(args[1].numel()) * int(args[2].numel())


def _linear(args: Sequence[Any], out: Any) -> int:
    """Count a product with packed weights: each number of x goes into each output."""
    return 2 * int(args[0].numel()) * int(out.size(-1))  # A nested tensor has no whole shape.


def _grouped(args: Sequence[Any], out: Any) -> int:
    """Count rows in groups (S, K) times a matrix per group (G, K, N); or columns, or both."""
    a, b = args[:2]
    if a.dim() == 3 and b.dim() == 2:  # (G, M, K) and columns in groups (K, S)
        return 2 * int(b.numel()) * int(a.shape[-2])
    return 2 * int(a.numel()) * int(b.shape[-1])


def _each(args: Sequence[Any], out: Any) -> int:
    return sum(2 * count_pairs(a, b) for a, b in zip(*args[:2], strict=True))


def _half_left(args: Sequence[Any], out: Any) -> int:
    """Count a product with a (m, k) of which two of each four numbers are stored."""
    return 2 * int(args[0].numel()) * int(args[2].shape[-1])


def _half_added(args: Sequence[Any], out: Any) -> int:
    return 2 * int(args[1].numel()) * int(args[3].shape[-1])


def _half_linear(args: Sequence[Any], out: Any) -> int:
    return 2 * _rows(args[0]) * int(args[1].numel())


def _half_compressed(args: Sequence[Any], out: Any) -> int:
    return int(out.numel()) * int(args[1].shape[0])


def _convolution(args: Sequence[Any], out: Any) -> int:
    """Count a convolution: each output is a product with the weights of its channel."""
    return 2 * int(out.numel()) * _of_one_channel(_weight(args))


def _transposed(args: Sequence[Any], out: Any) -> int:
    """Count a transposed convolution: each input is multiplied with its channel's weights."""
    return 2 * int(args[0].numel()) * _of_one_channel(_weight(args))


def _over_time(args: Sequence[Any], out: Any) -> int:
    """Count `conv_tbc`, with weights (kernel, inputs, outputs)."""
    kernel, inputs, _ = args[1].shape
    return 2 * int(out.numel()) * int(kernel) * int(inputs)


def _weight(args: Sequence[Any]) -> Tensor:
    packed = next((a for a in args if isinstance(a, torch.ScriptObject)), None)
    weight: Tensor = args[1] if packed is None else list_packed(packed)[0]
    return weight


def _of_one_channel(weight: Tensor) -> int:
    return int(weight.numel()) // max(int(weight.shape[0]), 1)


def _attention(args: Sequence[Any], out: Any) -> int:
    """Count attention of queries (..., heads, L, E), keys (..., S, E), values (..., S, V)."""
    q, k, v = args[:3]
    (*batch, heads, queries, width), keys, values = q.shape, k.shape[-2], v.shape[-1]
    return 2 * torch.Size(batch).numel() * int(heads * queries * keys * (width + values))


def _attention_by_position(lengths: int, packet: Any) -> Formula:
    """Count attention of (N, L, heads, E), or packed with the length of each sample."""

    def attention(args: Sequence[Any], out: Any) -> int:
        if args[lengths] is not None:
            return int(flop_registry[packet](*args, out_val=out))
        return _attention([x.transpose(1, 2) for x in args[:3]], out)

    return attention


def _attention_backward(args: Sequence[Any], out: Any) -> int:
    backward = torch.ops.aten._scaled_dot_product_flash_attention_backward
    return int(flop_registry[backward](*args[:4], out_val=out))


def _trilinear(args: Sequence[Any], out: Any) -> int:
    """Count `nn.Bilinear`: x (N, I) and y (N, J), with weights (I, J) for each of O outputs."""
    *_, outputs, i, j = args[1].shape
    samples = int(args[0].numel()) // int(i)
    return samples * int(outputs) * 2 * (int(i) * int(j) + int(i))


def _rows(x: Tensor) -> int:
    return int(x.numel()) // max(int(x.shape[-1]), 1)


def _recurrent(matrices: Callable[[Sequence[Any]], Iterator[Tensor]]) -> Formula:
    """Count a fused recurrent layer, or a cell: each matrix once per step and sample."""

    def layer(args: Sequence[Any], out: Any) -> int:
        return 2 * _rows(args[0]) * sum(int(w.numel()) for w in matrices(args) if w.dim() == 2)

    return layer


def _packed_in(args: Sequence[Any]) -> Iterator[Tensor]:
    lists = (arg if isinstance(arg, list | tuple) else (arg,) for arg in args)
    for each in chain.from_iterable(lists):
        if isinstance(each, torch.ScriptObject):
            yield from list_packed(each)


_packed = _recurrent(_packed_in)


def _distances(args: Sequence[Any], out: Any) -> int:
    """Count distances of rows of a (P, M) and b (R, M): a difference and a product each."""
    return 2 * int(args[0].numel()) * int(args[1].shape[-2])


def _distances_by_product(args: Sequence[Any], out: Any) -> int:
    """Count distances of many rows, as a product of matrices two columns wider."""
    a, b = args[:2]
    return 2 * _rows(a) * (int(a.shape[-1]) + 2) * int(b.shape[-2])


def _distances_within(args: Sequence[Any], out: Any) -> int:
    return 2 * int(out.numel()) * int(args[0].shape[-1])


def _cross_entropy(args: Sequence[Any], out: Any) -> int:
    """Count `linear_cross_entropy` in chunks: the product, and one for each gradient."""
    gradients = sum(map(bool, args[12:14]))
    return 2 * int(args[0].numel()) * int(args[1].shape[0]) * (1 + gradients)


def _grid(args: Sequence[Any], out: Any) -> int:
    """Count the product of each position, with a 1 appended, and the matrix of its sample."""
    return 2 * int(out.numel()) * (int(out.shape[-1]) + 1)


def _named(names: str, formula: Formula, *namespaces: str) -> dict[str, Formula]:
    return {space + name: formula for space in namespaces or ("",) for name in names.split()}


_QUANTIZED = ("quantized::", "_quantized::")

PRODUCTS: dict[str, Formula] = {
    **_named("mm bmm mv dot vdot _int_mm hspmm _sparse_sparse_matmul", _products_of(0, 1)),
    **_named("_sparse_mm_reduce_impl _scaled_mm_v2", _products_of(0, 1)),
    **_named("addmm baddbmm addbmm addmv _addmm_activation", _products_of(1, 2)),
    **_named("_sparse_addmm sspaddmm", _products_of(1, 2)),
    "quantized::matmul": _products_of(0, 1),
    "sparse_sampled_addmm": _sampled,
    "addr": _outer,
    **_named("linear mkldnn_linear _mixed_dtypes_linear _dyn_quant_matmul_4bit", _linear),
    **_named("_weight_int8pack_mm _weight_int4pack_mm _weight_int4pack_mm_for_cpu", _linear),
    "_weight_int4pack_mm_with_scales_and_zeros": _linear,
    **_named(
        "int4mm_packed_weight_cpu linear_dynamic_fp16_unpacked_weight", _linear, "quantized::"
    ),
    **_named(
        "_wrapped_quantized_linear_prepacked wrapped_quantized_linear", _linear, "_quantized::"
    ),
    "_quantized::wrapped_fbgemm_linear_fp16_weight": _linear,
    "mkldnn::_linear_pointwise": _linear,
    "onednn::qlinear_pointwise": _linear,
    **_named("_grouped_mm _scaled_grouped_mm _scaled_grouped_mm_v2", _grouped),
    "transformers::grouped_mm_fallback": _grouped,
    "_foreach_mm": _each,
    "_sparse_semi_structured_mm": _half_left,
    "_sparse_semi_structured_addmm": _half_added,
    "_sparse_semi_structured_linear": _half_linear,
    "_cslt_sparse_mm": _half_compressed,
    **_named("_conv_depthwise2d conv_depthwise3d _slow_conv2d_forward", _convolution),
    **_named("slow_conv3d_forward slow_conv_dilated2d slow_conv_dilated3d", _convolution),
    **_named("cudnn_convolution cudnn_convolution_relu cudnn_convolution_add_relu", _convolution),
    **_named(
        "miopen_convolution miopen_convolution_relu miopen_depthwise_convolution", _convolution
    ),
    **_named("mkldnn_convolution _mps_convolution _nnpack_spatial_convolution", _convolution),
    "miopen_convolution_add_relu": _convolution,
    **_named("slow_conv_transpose2d slow_conv_transpose3d", _transposed),
    **_named("cudnn_convolution_transpose miopen_convolution_transpose", _transposed),
    "_mps_convolution_transpose": _transposed,
    "conv_tbc": _over_time,
    **_named("conv1d conv1d_relu conv1d_dynamic conv2d conv2d_relu", _convolution, *_QUANTIZED),
    **_named("conv2d_add conv2d_add_relu conv2d_dynamic", _convolution, *_QUANTIZED),
    **_named("conv3d conv3d_relu conv3d_dynamic", _convolution, *_QUANTIZED),
    **_named("conv_transpose1d conv_transpose2d conv_transpose3d", _transposed, *_QUANTIZED),
    **_named("conv_transpose1d_dynamic conv_transpose2d_dynamic", _transposed, *_QUANTIZED),
    "quantized::conv_transpose3d_dynamic": _transposed,
    **_named("linear linear_relu linear_leaky_relu linear_tanh", _packed, *_QUANTIZED),
    **_named("linear_dynamic linear_relu_dynamic", _packed, *_QUANTIZED),
    **_named("linear_dynamic_fp16 linear_relu_dynamic_fp16", _packed, *_QUANTIZED),
    **_named("linear_with_input_q_dq_qweight_dq_output_fp32", _packed, "quantized::"),
    **_named("linear_with_input_q_dq_qweight_dq_relu_output_fp32", _packed, "quantized::"),
    **_named("quantized_lstm_cell_dynamic quantized_gru_cell_dynamic", _packed, "quantized::"),
    **_named("quantized_rnn_relu_cell_dynamic", _packed, "quantized::"),
    **_named("quantized_rnn_tanh_cell_dynamic", _packed, "quantized::"),
    **_named("quantized_lstm quantized_gru", _packed),
    "mkldnn_rnn_layer": _recurrent(lambda args: iter(args[1:3])),
    **_named("_cudnn_rnn miopen_rnn", _recurrent(lambda args: iter(args[1]))),
    "_lstm_mps": _recurrent(lambda args: iter(args[2])),
    "_scaled_dot_product_flash_attention_for_cpu": _attention,
    "_scaled_dot_product_fused_attention_overrideable": _attention,
    "_scaled_dot_product_attention_math": _attention,
    "_scaled_dot_product_attention_math_for_mps": _attention,
    "_flash_attention_forward": _attention_by_position(3, torch.ops.aten._flash_attention_forward),
    "_efficient_attention_forward": _attention_by_position(
        4, torch.ops.aten._efficient_attention_forward
    ),
    "_scaled_dot_product_flash_attention_for_cpu_backward": _attention_backward,
    "_scaled_dot_product_fused_attention_overrideable_backward": _attention_backward,
    "_trilinear": _trilinear,
    "_cdist_forward": _distances,
    "_euclidean_dist": _distances_by_product,
    "_pdist_forward": _distances_within,
    "torch_nn::_linear_cross_entropy_batch_chunked": _cross_entropy,
    "torch_nn::_linear_cross_entropy_batch_chunked_no_reduction": lambda args, out: _cross_entropy(
        args[:2], out
    ),
    "affine_grid_generator": _grid,
    "cudnn_affine_grid_generator": _grid,
}
