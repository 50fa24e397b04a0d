"""Classify operations without a formula: they move numbers, are cheap, or are unknown.

PyTorch's tags give most kinds: views, pointwise operations, reductions. The tables hold the rest of
`aten`, without the underscore of what works in place, and the quantized operations. A backward pass
is as cheap as its forward pass. Whatever is not found is `UNKNOWN`, so that it is not taken for
free.
"""

from __future__ import annotations

import re
from typing import Any

import torch

from fmstats.analysis.names import name_of
from fmstats.analysis.records import CHEAP, MOVES, UNKNOWN


def _words(text: str, namespace: str = "") -> frozenset[str]:
    return frozenset(namespace + word for word in text.split())


# Neither changes nor combines numbers: copies, gathers, new tensors, layouts, questions.
_MOVES = _words(
    """
    _assert_async _assert_scalar _assert_tensor_metadata _chunk_cat _coalesced
    _convert_indices_from_coo_to_csr _convert_indices_from_csr_to_coo _convert_weight_to_int4pack
    _convert_weight_to_int4pack_for_cpu _copy_from _copy_from_and_resize _cslt_compress
    _cudnn_init_dropout_state _cudnn_rnn_flatten_weight _dimI _dimV _dyn_quant_pack_4bit_weight
    _efficientzerotensor _empty_affine_quantized _empty_per_channel_affine_quantized
    _fill_mem_eff_dropout_mask _functional_assert_async _functional_assert_scalar
    _functional_sym_constrain_range _functional_sym_constrain_range_for_size _fused_sdp_choice
    _has_same_storage_numel _index_put_impl _is_all_true _is_any_true
    _jagged_to_padded_dense_forward _lazy_clone _linalg_check_errors _local_scalar_dense
    _make_dep_token _make_per_channel_quantized_tensor _make_per_tensor_quantized_tensor _make_token
    _mkldnn_reshape _mkldnn_transpose _nested_compute_contiguous_strides_offsets _nested_from_padded
    _nested_from_padded_and_nested_example _nested_from_padded_tensor _nested_get_jagged_dummy
    _nested_get_lengths _nested_get_max_seqlen _nested_get_min_seqlen _nested_get_offsets
    _nested_get_ragged_idx _nested_select_backward _nested_tensor_from_mask
    _nested_tensor_from_mask_left_aligned _nested_tensor_from_tensor_list _nested_tensor_size
    _nested_tensor_storage_offsets _nested_tensor_strides _new_zeros_with_same_feature_meta _nnz
    _pack_padded_sequence _padded_dense_to_jagged_forward _pin_memory _print _reshape_copy
    _resize_output _sink_tokens _sparse_compressed_tensor_unsafe _sparse_compressed_tensor_with_dims
    _sparse_coo_tensor_unsafe _sparse_coo_tensor_with_dims _sparse_coo_tensor_with_dims_and_tensors
    _sparse_mask_projection _sparse_semi_structured_tile _spdiags _stack _to_copy _to_dense
    _to_sparse _to_sparse_bsc _to_sparse_bsr _to_sparse_csc _to_sparse_csr
    _to_sparse_semi_structured _unsafe_index _unsafe_index_put _unsafe_masked_index _unsafe_view
    _use_cudnn_ctc_loss _use_miopen_ctc_loss _validate_compressed_sparse_indices arange
    as_strided_scatter bartlett_window blackman_window block_diag broadcast_in_dim cat
    channel_shuffle clone collapse complex constant_pad_nd convert_element_type copy
    copy_sparse_to_sparse copy_strided copy_to dense_dim device_put diag_embed diagonal_scatter
    embedding empty empty_like empty_permuted empty_quantized empty_strided eye fft_fftfreq
    fft_rfftfreq fill flip from_file full full_like gather hamming_window hann_window im2col index
    index_copy index_fill index_put index_select int_repr iota is_coalesced is_pinned is_same_size
    is_set_to item kaiser_window lift linspace logspace lu_unpack masked_fill masked_scatter
    masked_select max_unpool2d max_unpool3d mkldnn_reorder_conv2d_weight
    mkldnn_reorder_conv3d_weight native_channel_shuffle new_empty new_empty_strided new_full
    new_ones new_zeros nonzero nonzero_static ones ones_like pad pixel_shuffle pixel_unshuffle put
    q_per_channel_axis q_per_channel_scales q_per_channel_zero_points q_scale q_zero_point qscheme
    rand rand_like randint randint_like randn randn_like randperm range record_stream
    reflection_pad1d reflection_pad2d reflection_pad3d repeat repeat_interleave replication_pad1d
    replication_pad2d replication_pad3d resize resize_as resize_as_sparse rev roll rot90
    scalar_tensor scatter select_scatter set slice_scatter sparse_compressed_tensor
    sparse_coo_tensor sparse_dim sparse_mask sparse_resize sparse_resize_and_clear split_dim stack
    sym_constrain_range sym_constrain_range_for_size sym_numel sym_size sym_storage_offset
    sym_stride take to_mkldnn to_padded_tensor topk tril tril_indices triu triu_indices unsafe_chunk
    unsafe_split unsafe_split_with_sizes zero zeros zeros_like
    """
) | _words(
    """
    all_gather_into_tensor all_gather_into_tensor_coalesced all_to_all_single batch_p2p_ops
    broadcast broadcast_ irecv isend wait_tensor
    """,
    "_c10d_functional::",
)
# A few operations an element.
_CHEAP = (
    _words(
        """
        __irshift__ _adaptive_avg_pool2d _adaptive_avg_pool3d _add_relu _aminmax
        _batch_norm_no_update _batch_norm_with_update _coalesce _compute_linear_combination
        _ctc_loss _cudnn_ctc_loss _cummax_helper _cummin_helper _dirichlet_grad _embedding_bag
        _embedding_bag_dense_backward _embedding_bag_forward_only
        _embedding_bag_per_sample_weights_backward _fake_quantize_learnable_per_channel_affine
        _fake_quantize_learnable_per_tensor_affine
        _fake_quantize_per_tensor_affine_cachemask_tensor_qparams _foreach_powsum _fused_dropout
        _fused_moving_avg_obs_fq_helper _fused_rms_norm _grid_sampler_2d_cpu_fallback
        _histogramdd_bin_edges _histogramdd_from_bin_cts _histogramdd_from_bin_tensors _log_softmax
        _logcumsumexp _masked_scale _masked_softmax _native_batch_norm_legit
        _native_batch_norm_legit_no_training _nested_sum_backward _nested_tensor_softmax_with_shape
        _philox_normal _philox_uniform _prelu_kernel _safe_softmax _sample_dirichlet
        _segment_reduce_backward _softmax _sparse_csr_prod _sparse_csr_sum _sparse_log_softmax
        _sparse_semi_structured_apply _sparse_semi_structured_apply_dense _sparse_softmax
        _sparse_sum _standard_gamma _standard_gamma_grad _thnn_fused_gru_cell _thnn_fused_lstm_cell
        _thnn_fused_lstm_cell_backward_impl _transform_bias_rescale_qkv _unique _unique2
        _unsafe_masked_index_put_accumulate _upsample_bicubic2d_aa _upsample_bilinear2d_aa
        _upsample_lanczos2d_aa _upsample_nearest_exact1d _upsample_nearest_exact2d
        _upsample_nearest_exact3d _weight_norm_interface adaptive_max_pool2d adaptive_max_pool3d all
        allclose any argmax argmin argsort avg_pool1d avg_pool2d avg_pool3d batch_norm
        batch_norm_backward_elemt batch_norm_backward_reduce batch_norm_elemt
        batch_norm_gather_stats batch_norm_gather_stats_with_counts batch_norm_stats
        batch_norm_update_stats bernoulli bessel_i0 bessel_i0e bessel_i1 bessel_i1e bessel_j0
        bessel_j1 binary_cross_entropy binary_cross_entropy_with_logits bincount binomial bucketize
        cauchy cbrt col2im cudnn_batch_norm cudnn_grid_sampler cummax cummin cumprod cumsum
        dequantize dist dropout embedding_dense_backward embedding_renorm erf_inv erfcx exponential
        fake_quantize_per_channel_affine_cachemask fake_quantize_per_tensor_affine_cachemask
        floor_divide fractional_max_pool2d fractional_max_pool3d geometric glu glu_backward_jvp
        grid_sampler_2d grid_sampler_3d hardswish hash_tensor histc histogram huber_loss index_add
        index_reduce isin kthvalue linalg_cross linalg_vector_norm log_normal log_sigmoid
        log_softmax logcumsumexp logsumexp max max_pool2d_backward max_pool2d_with_indices
        max_pool3d_with_indices maximum_value mean median minimum_value miopen_batch_norm
        miopen_ctc_loss mkldnn_adaptive_avg_pool2d mkldnn_max_pool2d mkldnn_max_pool3d mode mse_loss
        multi_margin_loss multilabel_margin_loss multinomial nanmedian native_batch_norm
        native_dropout native_group_norm native_layer_norm native_norm ndtri nll_loss nll_loss2d
        normal poisson polar quantize_per_channel quantize_per_tensor quantize_per_tensor_dynamic
        quantized_batch_norm quantized_max_pool1d quantized_max_pool2d quantized_max_pool3d random
        renorm rms_norm rrelu_with_noise rsub scatter_add scatter_reduce searchsorted segment_reduce
        shift_left shift_right_arithmetic smooth_l1_loss soft_margin_loss softmax sort
        spherical_bessel_j0 std std_mean trace uniform unique_consecutive unique_dim
        unique_dim_consecutive upsample_bicubic2d upsample_bilinear2d upsample_linear1d
        upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_trilinear3d var var_mean
        xor_sum zeta
        """
    )
    | _words(
        "all_reduce all_reduce_ all_reduce_coalesced all_reduce_coalesced_", "_c10d_functional::"
    )
    | _words("reduce_scatter_tensor reduce_scatter_tensor_coalesced", "_c10d_functional::")
    | _words(
        """
        add add_out add_relu add_relu_out add_scalar add_scalar_out add_scalar_relu
        add_scalar_relu_out batch_norm batch_norm1d batch_norm1d_relu batch_norm2d batch_norm2d_relu
        batch_norm3d batch_norm3d_relu batch_norm_relu cat cat_out cat_relu cat_relu_out celu clamp
        elu embedding_4bit embedding_bag_2bit_rowwise_offsets embedding_bag_4bit
        embedding_bag_4bit_rowwise_offsets embedding_bag_byte embedding_bag_byte_rowwise_offsets
        embedding_byte group_norm hardswish instance_norm layer_norm leaky_relu max_pool1d dropout
        max_pool2d mul mul_out mul_relu mul_relu_out mul_scalar mul_scalar_out mul_scalar_relu
        mul_scalar_relu_out prelu relu6 sigmoid softmax threshold
        """,
        "quantized::",
    )
    | _words("qadd qadd_relu qbatch_norm2d qmul", "onednn::")
)
_CHEAP_NAMESPACES = ("quantized_decomposed",)  # (de)quantization as torch.export shows it
_MOVING_NAMESPACES = ("prim",)  # questions that a tensor subclass answers
_MOVING_TAGS = frozenset((torch.Tag.inplace_view, torch.Tag.view_copy))
_CHEAP_TAGS = frozenset(
    tag
    for name in ("pointwise", "reduction")
    if (tag := getattr(torch.Tag, name, None)) is not None
)
_PREFIX = re.compile(r"^_foreach_")
_SUFFIX = re.compile(r"(_forward|_functional|_copy|(_backward|_backward_data|_jvp))$")


def kind_of(operation: Any) -> str:
    """Return the kind of an operation without a formula: MOVES, CHEAP or UNKNOWN."""
    name = name_of(operation)
    known = _known(operation, name)
    if known is not None:
        return known
    stem = _PREFIX.sub("", name)
    suffix = _SUFFIX.search(stem)
    if suffix is not None:
        stem = stem[: suffix.start()]
    relative = getattr(torch.ops.aten, stem, None) if "::" not in stem else None
    if relative is None:
        return UNKNOWN
    known = _known(getattr(relative, relative.overloads()[0]), stem)
    backward = suffix is not None and suffix[2] is not None
    return CHEAP if known == MOVES and backward else known or UNKNOWN  # a sum, behind a gather


def _known(operation: Any, name: str) -> str | None:
    tags, namespace = getattr(operation, "tags", ()), name.partition("::")[0]
    if getattr(operation, "is_view", False) or not _MOVING_TAGS.isdisjoint(tags):
        return MOVES
    if name in _MOVES or namespace in _MOVING_NAMESPACES:
        return MOVES
    cheap = name in _CHEAP or namespace in _CHEAP_NAMESPACES
    return CHEAP if cheap or not _CHEAP_TAGS.isdisjoint(tags) else None
