"""These rules tell how each operation of PyTorch carries the channels of tensors on.

`follow` is asked after each call of a public function or method of torch. Operations that make
channels (convolutions, linear layers, embeddings, products with weights) say where they put them;
the others carry the label of what they are given. Where channels are multiplied away, as in the
attention weights q @ k, what remains of them are the heads, and one channel where there are none.
"""

from __future__ import annotations

import re
from functools import lru_cache
from types import (
    BuiltinFunctionType,
    FunctionType,
    MethodDescriptorType,
    MethodWrapperType,
    WrapperDescriptorType,
)
from typing import Any

import torch
from torch import Tensor

from fmstats.operations import carrying, making, moving
from fmstats.operations.calls import Call, Rule
from fmstats.operations.labels import Label


def follow(call: Call, out: Tensor) -> Label | None:
    """Return the label of a tensor that an operation returned; None if nothing is known."""
    if not call.tensors:
        return None
    label = _rule_of(call.name)(call, out)
    return None if label is None or any(dim >= out.dim() for dim in label) else label


def makes_channels(name: str) -> bool:
    """Tell whether an operation puts channels of its own in its result."""
    return _rule_of(name) in making.MAKERS


def is_known(name: str) -> bool:
    """Tell whether there is a rule for an operation, other than that it may keep the shape."""
    return _rule_of(name) is not carrying.keep_shape


def name_of(function: Any) -> str:
    """Return the name of a public function or method of torch, as the rules have it.

    What works in place, the right-hand forms of operators and the overloads of an operation have
    the name of the operation; an attribute of tensors, as `x.T`, has its own. What others make
    overridable is asked each time: it may be of an object, which nothing here shall keep.
    """
    return _name_of_torch(function) if type(function) in STAYING else _read_name(function)


# Types of functions that stay as long as torch does: no methods of objects, nor what can be called.
STAYING = frozenset(
    (
        *(BuiltinFunctionType, FunctionType, MethodDescriptorType),
        *(MethodWrapperType, WrapperDescriptorType, torch._ops.OpOverload),
    )
)


@lru_cache(maxsize=4096)
def _name_of_torch(function: object) -> str:
    return _read_name(function)


def _read_name(function: Any) -> str:
    if function is torch.nn.functional.unfold:
        return "im2col"  # as aten calls it: Tensor.unfold does something else
    packet = getattr(function, "overloadpacket", function)
    name = str(getattr(packet, "__name__", ""))
    if name == "__get__":
        name = str(getattr(packet.__self__, "__name__", ""))
    return plain_name(name)


def plain_name(name: str) -> str:
    """Return the name of an operation, given that of a function or method of torch."""
    operator = _OPERATOR.match(name)
    if operator:
        return _OPERATORS.get(operator[1], operator[1])
    return name if name.endswith("__") else name.rstrip("_")


_CONVOLUTION = re.compile(r"(?:q|sparse_|quantized_)?conv(?:_?transpose)?([123])d")
_OPERATOR = re.compile(r"__[ri]?(add|sub|mul|truediv|div|floordiv|mod|pow|matmul)__")
_OPERATORS = {"truediv": "div"}


@lru_cache(maxsize=4096)
def _rule_of(name: str) -> Rule:
    space = count_space(name)
    if space:
        return making.CONVOLUTIONS[space]
    return RULES.get(name) or (carrying.join if is_pointwise(name) else carrying.keep_shape)


@lru_cache(maxsize=4096)
def count_space(name: str) -> int:
    """Count the dims in space of a convolution; 0 for any other operation."""
    convolution = _CONVOLUTION.fullmatch(name)
    return int(convolution[1]) if convolution else 0


@lru_cache(maxsize=4096)
def is_pointwise(name: str) -> bool:
    """Tell whether an operation gives each element from those at its place in the operands."""
    packet = getattr(torch.ops.aten, name, None)
    if packet is None:
        return False
    overloads = (getattr(packet, overload) for overload in packet.overloads())
    return any(torch.Tag.pointwise in overload.tags for overload in overloads)


_NAMES: tuple[tuple[Rule, str], ...] = (
    (making.last, "linear bilinear embedding embedding_bag lstm gru rnn_tanh rnn_relu lstm_cell"),
    (making.last, "gru_cell rnn_tanh_cell rnn_relu_cell conv_tbc"),
    (making.second, "batch_norm instance_norm fold col2im"),
    (making.before_last, "im2col"),
    (making.attention, "scaled_dot_product_attention"),
    (making.multi_head, "multi_head_attention_forward"),
    (making.product, "matmul mm bmm mv dot addmm baddbmm addbmm addmv linalg_matmul"),
    (making.last, "grouped_mm _grouped_mm grouped_mm_fallback"),
    (making.einsum, "einsum"),
    (carrying.norm(-1), "layer_norm rms_norm"),
    (carrying.norm(1), "group_norm local_response_norm"),
    (moving.one_channel, "cdist pdist"),
    (
        carrying.join,
        "binary_cross_entropy binary_cross_entropy_with_logits mse_loss l1_loss kl_div",
    ),
    (
        carrying.join,
        "smooth_l1_loss huber_loss soft_margin_loss poisson_nll_loss gaussian_nll_loss",
    ),
    # Pointwise, but PyTorch makes them of others and does not say so.
    (carrying.join, "hardswish log_sigmoid logsigmoid prelu softsign tanhshrink _threshold"),
    (carrying.join, "multiply divide subtract negative absolute fix floordiv floor_divide mod"),
    (carrying.join, "arccos arccosh arcsin arcsinh arctan arctan2 arctanh conj"),
    (carrying.join, "special_erf special_erfc special_exp2 special_expit special_expm1"),
    (carrying.join, "special_log1p special_logit special_sinc special_xlogy bool int long"),
    (moving.stack, "stack"),
    (moving.reduce_or_join, "max min"),
    (
        carrying.keep,
        "cat concat concatenate split chunk tensor_split split_with_sizes unsafe_split",
    ),
    (
        carrying.keep,
        "unsafe_chunk hsplit vsplit dsplit roll flip fliplr flipud cumsum cumprod logcumsumexp",
    ),
    (
        carrying.keep,
        "sort topk gather index_select take_along_dim narrow slice repeat_interleave pad",
    ),
    (carrying.keep, "constant_pad_nd dropout dropout1d dropout2d dropout3d alpha_dropout"),
    (
        carrying.keep,
        "feature_dropout feature_alpha_dropout softmax log_softmax softmin gumbel_softmax",
    ),
    (
        carrying.keep,
        "interpolate upsample upsample_nearest upsample_bilinear grid_sample glu normalize",
    ),
    (carrying.keep, "renorm pixel_shuffle pixel_unshuffle channel_shuffle native_channel_shuffle"),
    (
        carrying.keep,
        "contiguous clone detach to type float half double bfloat16 cuda cpu type_as alias",
    ),
    (carrying.keep, "requires_grad tril triu zeros_like ones_like empty_like rand_like randn_like"),
    (carrying.keep, "full_like masked_scatter index_add index_copy index_fill index_put scatter"),
    (carrying.keep, "scatter_add scatter_reduce data real imag cummax cummin native_dropout"),
    (carrying.keep, "fft_fft fft_fft2 fft_fftn fft_ifft fft_ifft2 fft_ifftn fft_fftshift"),
    (carrying.keep, "fft_rfft fft_rfft2 fft_rfftn fft_irfft fft_irfft2 fft_irfftn fft_ifftshift"),
    (carrying.keep, "special_softmax special_log_softmax hstack vstack dstack column_stack"),
    (carrying.keep, "avg_pool1d avg_pool2d avg_pool3d max_pool1d max_pool2d max_pool3d"),
    (carrying.keep, "max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices"),
    (carrying.keep, "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d"),
    (carrying.keep, "adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d"),
    (carrying.keep, "adaptive_max_pool1d_with_indices adaptive_max_pool2d_with_indices"),
    (carrying.keep, "adaptive_max_pool3d_with_indices fractional_max_pool2d fractional_max_pool3d"),
    (carrying.keep, "fractional_max_pool2d_with_indices fractional_max_pool3d_with_indices"),
    (carrying.keep, "lp_pool1d lp_pool2d lp_pool3d max_unpool1d max_unpool2d max_unpool3d"),
    (
        moving.moves(moving.reshape_dims),
        "view reshape flatten unflatten view_as reshape_as ravel _unsafe_view",
    ),
    (moving.moves(moving.permute_dims), "permute"),
    (moving.moves(moving.transpose), "transpose swapaxes swapdims"),
    (moving.moves(moving.swap_last), "t mT mH adjoint"),
    (moving.moves(moving.reverse_dims), "T H"),
    (moving.moves(moving.move_dims), "movedim moveaxis"),
    (moving.moves(moving.unsqueeze), "unsqueeze"),
    (moving.moves(moving.squeeze), "squeeze"),
    (moving.moves(moving.unfold), "unfold"),
    (moving.moves(lambda call, out, label: label), "view_as_real"),
    (moving.moves(moving.align), "expand expand_as broadcast_to"),
    (moving.moves(moving.repeat), "repeat tile"),
    (moving.moves(moving.drop_dim), "select unbind"),
    (moving.moves(moving.drop_last), "view_as_complex cosine_similarity pairwise_distance"),
    (
        moving.moves(moving.reduce_dims),
        "mean sum amax amin std var std_mean var_mean median nanmean nansum prod",
    ),
    (
        moving.moves(moving.reduce_dims),
        "nanmedian logsumexp norm vector_norm linalg_vector_norm linalg_norm argmax argmin",
    ),
    (
        moving.moves(moving.reduce_dims),
        "quantile nanquantile count_nonzero any all mode kthvalue aminmax",
    ),
    (
        moving.moves(moving.class_loss),
        "cross_entropy nll_loss cross_entropy_loss nll_loss_nd nll_loss2d",
    ),
    (making.look_up(moving.moves(moving.index)), "__getitem__"),
    (
        moving.nothing,
        "__setitem__ stft istft affine_grid one_hot arange new_zeros new_ones new_full",
    ),
    (moving.nothing, "new_empty new_tensor bincount histc"),
)
RULES: dict[str, Rule] = {name: rule for rule, names in _NAMES for name in names.split()}
