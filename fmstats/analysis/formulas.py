"""How many floating-point operations an operation takes, multiplications and additions.

The formulas of matrix products, convolutions and attention are those of `torch.utils.flop_counter`;
here stand those that it lacks. As there, what costs a few operations an element (activations,
norms, pooling, sums, biases) is not counted. What has no formula and is none of these is named
`UNKNOWN`, so that nobody takes it for free.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import flop_registry

from fmstats.analysis.records import CHEAP, MOVES, UNKNOWN

Formula = Callable[..., int]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Neither changes nor combines numbers: copies, gathers, new tensors, questions.
_MOVES = _words(
    """
    _efficientzerotensor _local_scalar_dense _reshape_alias _to_copy _unsafe_index _unsafe_view
    alias arange as_strided_scatter cat channel_shuffle clone constant_pad_nd contiguous copy copy_
    detach diag_embed embedding empty empty_like empty_permuted empty_strided eye fill fill_ flip
    full full_like gather index index_copy index_fill index_put index_put_ index_select is_same_size
    item lift_fresh lift_fresh_copy linspace masked_select native_channel_shuffle new_empty
    new_empty_strided new_full new_ones new_zeros nonzero ones ones_like pad pixel_shuffle
    pixel_unshuffle rand rand_like randint randn randn_like randperm reflection_pad1d
    reflection_pad2d reflection_pad3d repeat repeat_interleave replication_pad1d replication_pad2d
    replication_pad3d resize_ roll scalar_tensor scatter select_scatter set_ slice_scatter
    split_with_sizes_copy stack sym_size topk tril triu unsafe_chunk unsafe_split
    unsafe_split_with_sizes zero_ zeros zeros_like device complex _linalg_check_errors
    """
)
# A few operations an element; beside these, all that PyTorch tags as pointwise or as a reduction.
_CHEAP = _words(
    """
    _adaptive_avg_pool2d _adaptive_avg_pool3d _batch_norm_no_update _batch_norm_with_update
    _fused_dropout _fused_rms_norm _log_softmax _native_batch_norm_legit
    _native_batch_norm_legit_no_training _safe_softmax _softmax adaptive_max_pool2d
    adaptive_max_pool3d argmax argmin argsort avg_pool1d avg_pool2d avg_pool3d bernoulli bernoulli_
    cudnn_batch_norm cummax cummin cumprod cumsum dropout exponential_ fractional_max_pool2d
    index_add index_add_ linalg_vector_norm log_softmax logcumsumexp logsumexp max
    max_pool2d_with_indices max_pool3d_with_indices mean median miopen_batch_norm mode multinomial
    native_batch_norm native_dropout native_group_norm native_layer_norm normal_ rms_norm
    scatter_add scatter_add_ scatter_reduce softmax sort std std_mean uniform_ upsample_bicubic2d
    upsample_bilinear2d upsample_linear1d upsample_nearest1d upsample_nearest2d upsample_nearest3d
    upsample_trilinear3d _upsample_bicubic2d_aa _upsample_bilinear2d_aa _upsample_nearest_exact1d
    _upsample_nearest_exact2d _upsample_nearest_exact3d var var_mean _thnn_fused_gru_cell
    _thnn_fused_lstm_cell glu _weight_norm_interface grid_sampler_2d grid_sampler_3d all any
    """
)


def formula_of(operation: Any) -> Formula | None:
    """The formula of an operation (an overload packet or a higher-order operator), if it has one.

    It is called as the operation is, with the result as `out_val`.
    """
    return _OWN.get(_name(operation)) or flop_registry.get(operation)


def kind_of(overload: Any) -> str:
    """What an operation without a formula does: MOVES, CHEAP or UNKNOWN."""
    name = _name(overload)
    if getattr(overload, "is_view", False) or name in _MOVES:
        return MOVES
    tags = getattr(overload, "tags", ())
    cheap = torch.Tag.pointwise in tags or getattr(torch.Tag, "reduction", None) in tags
    return CHEAP if cheap or name in _CHEAP else UNKNOWN


def _name(operation: Any) -> str:
    """`addmm` of `aten.addmm.default` and of `aten.addmm`; `prims::x` keeps no namespace either."""
    packet = getattr(operation, "overloadpacket", operation)
    return str(getattr(packet, "__name__", packet)).rpartition(".")[2]


def _product(m: int, k: int, n: int, batch: int = 1) -> int:
    return 2 * batch * m * k * n


def _attention(q: Any, k: Any, v: Any, *args: Any, out_val: Any = None, **options: Any) -> int:
    (*batch, heads, queries, width), keys, values = q.shape, k.shape[-2], v.shape[-1]
    many = heads * torch.Size(batch).numel()
    return _product(queries, width, keys, many) + _product(queries, keys, values, many)


def _matrix_vector(a: Any, x: Any, *args: Any, out_val: Any = None, **options: Any) -> int:
    return 2 * int(a.numel())


def _add_matrix_vector(
    bias: Any, a: Any, x: Any, *args: Any, out_val: Any = None, **options: Any
) -> int:
    return 2 * int(a.numel())


def _add_product(bias: Any, a: Any, b: Any, *args: Any, out_val: Any = None, **options: Any) -> int:
    return _matrices(a, b)


def _matrices(a: Any, b: Any, *args: Any, out_val: Any = None, **options: Any) -> int:
    """Of (..., m, k) and (..., k, n)."""
    return 2 * int(a.numel()) * int(b.shape[-1])


def _linear(x: Any, weight: Any, *args: Any, out_val: Any = None, **options: Any) -> int:
    return 2 * int(x.numel()) * int(weight.shape[0])


def _outer(bias: Any, a: Any, b: Any, *args: Any, out_val: Any = None, **options: Any) -> int:
    return 2 * int(a.numel()) * int(b.numel())


def _trilinear(a: Any, b: Any, c: Any, *args: Any, out_val: Any = None, **options: Any) -> int:
    """Of `nn.Bilinear`: x of (N, I), for each of O outputs a weight (I, J), y of (N, J)."""
    *_, outputs, i, j = b.shape
    samples = int(a.numel()) // int(i)
    return samples * int(outputs) * 2 * (int(i) * int(j) + int(i))


def _recurrent_layer(
    x: Any, w_input: Any, w_hidden: Any, *args: Any, out_val: Any = None, **options: Any
) -> int:
    """Of oneDNN's fused layer: two products a step."""
    steps = int(x.numel()) // int(x.shape[-1])
    return 2 * steps * int(w_input.numel() + w_hidden.numel())


def _distances(a: Any, b: Any, *args: Any, out_val: Any = None, **options: Any) -> int:
    """Of every row of a (P, M) with every row of b (R, M): a difference and a product each."""
    return 2 * int(a.numel()) * int(b.shape[-2])


def _distances_by_product(a: Any, b: Any, *args: Any, out_val: Any = None, **options: Any) -> int:
    """The same of many rows: a product of matrices that are two columns wider."""
    *rows, columns = a.shape
    return _product(torch.Size(rows).numel(), columns + 2, int(b.shape[-2]))


_OWN: dict[str, Formula] = {
    "_scaled_dot_product_flash_attention_for_cpu": _attention,
    "_scaled_dot_product_fused_attention_overrideable": _attention,
    "_scaled_dot_product_attention_math": _attention,
    "_scaled_dot_product_attention_math_for_mps": _attention,
    "_addmm_activation": _add_product,
    "_int_mm": _matrices,
    "addbmm": _add_product,
    "mv": _matrix_vector,
    "addmv": _add_matrix_vector,
    "dot": _matrix_vector,
    "vdot": _matrix_vector,
    "addr": _outer,
    "linear": _linear,
    "mkldnn_linear": _linear,
    "_linear_pointwise": _linear,
    "_trilinear": _trilinear,
    "mkldnn_rnn_layer": _recurrent_layer,
    "_cdist_forward": _distances,
    "_euclidean_dist": _distances_by_product,
}
