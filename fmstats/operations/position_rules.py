"""These rules tell how each operation of PyTorch carries the positions of tensors on.

What moves the dims or the elements of a tensor is called again with its spread. Operations that
mix channels keep positions; those that mix positions, as convolutions with a stride, lose them.
Where positions are added up, as by `x.mean(1)`, what remains counts where any of them did.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from fmstats.operations import position_moves as moves
from fmstats.operations import rules
from fmstats.operations.calls import Call
from fmstats.operations.position_calls import (
    PositionCall,
    PositionRule,
    any_along,
    fitted_to,
    unsqueezed,
    without,
)
from fmstats.operations.spreads import Part, Spread, join, origin_of
from fmstats.operations.windows import follow_windows

# They read no element of the tensors that they are handed.
_NEW = ("new_zeros", "new_ones", "new_full", "new_empty", "new_tensor")


def follow(asked: PositionCall, out: Tensor) -> Spread | None:
    """Return the spread of a tensor that an operation returned.

    None if it is made of nothing that has positions, and no part if these are lost.
    """
    tensors = asked.call.tensors
    if asked.call.name in _NEW or not any(asked.spread(x) or asked.lost(x) for x in tensors):
        return None
    spread = _rule_of(asked.call.name)(asked, out)
    fits = spread is not None and all(part.view.shape == out.shape for part in spread)
    return spread if spread is not None and fits else ()


def _rule_of(name: str) -> PositionRule:
    if rules.count_space(name):
        return convolution
    return RULES.get(name) or (joined if rules.is_pointwise(name) else keep_shape)


def joined(asked: PositionCall, out: Tensor) -> Spread | None:
    """Follow all operands, broadcast to the result."""
    return _broadcast(asked, asked.call.tensors, out)


def written(asked: PositionCall, out: Tensor) -> Spread | None:
    """Follow what is copied into a tensor."""
    return _broadcast(asked, asked.call.tensors[1:], out)


def _broadcast(asked: PositionCall, operands: Sequence[Tensor], out: Tensor) -> Spread | None:
    parts = []
    for x in operands:
        if x.dim() <= out.dim():
            for part in asked.spread(x):
                try:
                    parts.append(Part(part.key, part.view.expand(out.shape)))
                except RuntimeError:
                    return None
    return join(parts)


def keep_shape(asked: PositionCall, out: Tensor) -> Spread | None:
    """Follow the first operand, if the result has its shape."""
    first = asked.call.first
    return asked.spread(first) or None if first.shape == out.shape else None


def resize(asked: PositionCall, out: Tensor) -> Spread | None:
    """Follow the first operand along dims that keep their size, or tell no positions apart."""
    return fitted_to(asked.spread(asked.call.first), out)


def convolution(asked: PositionCall, out: Tensor) -> Spread | None:
    """Follow samples, and places in space where each has its own in the result.

    Others only where the numbers say that windows are to be followed.
    """
    call = asked.call
    space = rules.count_space(call.name)
    if space == 1 and asked.numbers.windows and "transpose" not in call.name:
        return follow_windows(asked, out)
    x, stride = call.first, call.argument(3, "stride", 1)
    strides = (
        (stride,) * space if isinstance(stride, int) else tuple(stride) * (space // len(stride))
    )
    channel = x.dim() - 1 - space
    mixed = {channel, *(channel + 1 + i for i, each in enumerate(strides) if each != 1)}
    spread = asked.spread(x)
    lost = {origin_of(part.key) for part in spread if any(map(part.varies, mixed))}
    return fitted_to(tuple(part for part in spread if origin_of(part.key) not in lost), out)


def sample(asked: PositionCall, out: Tensor) -> Spread | None:
    """Follow what takes each element from any place in space: only samples keep apart."""
    spread = asked.spread(asked.call.first)
    apart = tuple(p for p in spread if not any(map(p.varies, range(1, p.view.dim()))))
    return fitted_to(apart, out)


def mixed_along(asked: PositionCall, out: Tensor) -> Spread | None:
    """Follow what changes the order along a dim: where positions are told apart, they are lost."""
    call, x = asked.call, asked.call.first
    place = 2 if call.name in ("topk", "kthvalue") or call.name.startswith("fft_") else 1
    dim = call.argument(place, "dim", -1)
    if not isinstance(dim, int) or isinstance(dim, bool):
        dim = -1
    if x.dim() == 0 or any(part.varies(dim % x.dim()) for part in asked.spread(x)):
        return None
    return fitted_to(asked.spread(x), out)


def last(asked: PositionCall, out: Tensor) -> Spread | None:
    """Follow what makes new channels of those in the last dim."""
    spread = asked.spread(asked.call.first)
    parts = [part for part in spread if not part.varies(part.view.dim() - 1)]
    found = fitted_to(tuple(parts), out)
    return found if parts else None


def embedding(asked: PositionCall, out: Tensor) -> Spread | None:
    """Follow what gives each index of a tensor a vector: embedding, one_hot."""
    return unsqueezed(asked.spread(asked.call.argument(0, "input")), out)


def real(asked: PositionCall, out: Tensor) -> Spread | None:
    """Follow view_as_real, whose last dim has the parts of a number."""
    return unsqueezed(asked.spread(asked.call.first), out)


def complex_numbers(asked: PositionCall, out: Tensor) -> Spread | None:
    """Follow view_as_complex, which joins the last dim to a number."""
    spread = asked.spread(asked.call.first)
    if any(part.varies(out.dim()) for part in spread):
        return None
    return join([Part(part.key, part.view.select(-1, 0)) for part in spread])


def product(asked: PositionCall, out: Tensor) -> Spread | None:
    """Follow the rows of the left operand, and the columns of the right one."""
    skip = 1 if asked.call.name in ("addmm", "baddbmm") else 0
    left, right = asked.call.tensors[skip : skip + 2]
    if left.dim() < 2 or right.dim() < 2 or asked.lost(left):
        return None
    rows = without(asked.numbers, asked.spread(left), -1, out)
    columns = without(asked.numbers, asked.spread(right), -2, out)
    # What the right one does not tell of columns, as which samples have keys at all, rows tell.
    told = {origin_of(part.key) for part in rows}
    columns = [p for p in columns if p.varies(out.dim() - 1) or origin_of(p.key) not in told]
    return join([*rows, *columns])


def attention(asked: PositionCall, out: Tensor) -> Spread | None:
    """Follow the queries of scaled_dot_product_attention."""
    query, value = asked.call.argument(0, "query"), asked.call.argument(2, "value")
    if asked.lost(query):
        return None
    rows = without(asked.numbers, asked.spread(query), -1, out)
    return join(rows or without(asked.numbers, asked.spread(value), -2, out))


def einsum(asked: PositionCall, out: Tensor) -> Spread | None:
    """Follow the letters that the result has."""
    equation, operands = asked.call.args[0], asked.call.tensors
    if not isinstance(equation, str) or "->" not in equation or "." in equation:
        return None
    if any(map(asked.lost, operands)):
        return None
    inputs, result = equation.replace(" ", "").split("->")
    kept: list[Part] = []
    pooled: list[Part] = []
    for letters, x in zip(inputs.split(","), operands, strict=True):
        gone = [dim for dim, letter in enumerate(letters) if letter not in result]
        for part in asked.spread(x):
            pools = any(map(part.varies, gone))
            found = any_along(asked.numbers, part, gone)
            if found is not None and len(set(letters)) == len(letters):
                (pooled if pools else kept).append(_spelled(found, letters, result, out))
    return join(kept or pooled)


def _spelled(part: Part, letters: str, result: str, out: Tensor) -> Part:
    """Return a part, of size 1 along letters that the result lacks, with the dims of the result."""
    order = [letters.index(letter) for letter in result if letter in letters]
    rest = [dim for dim in range(len(letters)) if dim not in order]
    first: Any = (..., *(0,) * len(rest))
    view = part.view.permute(*order, *rest)[first]
    for dim, letter in enumerate(result):
        if letter not in letters:
            view = view.unsqueeze(dim)
    return Part(part.key, view.expand(out.shape))


def reduce(asked: PositionCall, out: Tensor) -> Spread | None:
    """Follow a reduction: what remains counts where any of the positions did."""
    call, x = asked.call, asked.call.first
    dims = _reduced_dims(call)
    if dims is None:
        return None
    parts = []
    for part in asked.spread(x):
        found = any_along(asked.numbers, part, dims)
        if found is None:
            return None
        view = found.view
        if out.dim() < x.dim():
            for dim in sorted(dims, reverse=True):
                view = view.select(dim, 0)
        parts.append(Part(found.key, view.expand(out.shape)))
    return join(parts)


def _reduced_dims(call: Call) -> tuple[int, ...] | None:
    n = call.first.dim()
    place = 2 if "norm" in call.name or call.name in ("quantile", "nanquantile") else 1
    asked = call.argument(place, "dim", call.kwargs.get("axis"))
    if isinstance(asked, int) and not isinstance(asked, bool):
        return (asked % n,)
    if isinstance(asked, Sequence) and asked:
        return tuple(dim % n for dim in asked)
    return None  # over all: a single number, which no row has


def reduce_or_join(asked: PositionCall, out: Tensor) -> Spread | None:
    """Follow max and min, which compare two tensors or reduce one."""
    two = isinstance(asked.call.argument(1, "other"), Tensor)
    return joined(asked, out) if two else reduce(asked, out)


def nothing(asked: PositionCall, out: Tensor) -> Spread | None:
    """Tell nothing of the result."""
    return None


_NAMES: tuple[tuple[PositionRule, str], ...] = (
    (
        moves.move,
        "permute transpose swapaxes swapdims t mT mH adjoint T H movedim moveaxis unsqueeze "
        "squeeze select unbind narrow split chunk tensor_split split_with_sizes unsafe_split "
        "unsafe_chunk hsplit vsplit dsplit unfold diagonal expand expand_as broadcast_to",
    ),
    (moves.move, "fliplr flipud rot90"),
    (moves.repeat, "repeat tile"),
    (moves.repeat_each, "repeat_interleave"),
    (moves.pack, "_pack_padded_sequence _pad_packed_sequence"),
    (moves.reshape, "view reshape flatten unflatten view_as reshape_as ravel _unsafe_view"),
    (moves.index, "__getitem__"),
    (moves.gather, "gather index_select take_along_dim"),
    (last, "linear bilinear lstm gru rnn_tanh rnn_relu lstm_cell gru_cell rnn_tanh_cell"),
    (last, "rnn_relu_cell grouped_mm _grouped_mm"),
    (embedding, "embedding one_hot"),
    (product, "matmul mm bmm addmm baddbmm linalg_matmul"),
    (einsum, "einsum"),
    (attention, "scaled_dot_product_attention multi_head_attention_forward"),
    (reduce, "mean sum amax amin std var median nanmean nansum prod logsumexp norm vector_norm"),
    (reduce, "linalg_vector_norm linalg_norm argmax argmin std_mean var_mean any all quantile"),
    (reduce, "count_nonzero nanmedian nanquantile aminmax"),
    (reduce_or_join, "max min"),
    (mixed_along, "topk sort argsort kthvalue msort"),
    (mixed_along, "fft_fft fft_ifft fft_rfft fft_irfft fft_hfft fft_ihfft"),
    (moves.concatenate, "cat concat concatenate"),
    (moves.stack, "stack"),
    (moves.pad, "pad constant_pad_nd"),
    (moves.roll, "roll flip"),
    (joined, "masked_fill where clamp"),
    (written, "copy"),
    (real, "view_as_real"),
    (complex_numbers, "view_as_complex"),
    (
        resize,
        "interpolate upsample upsample_nearest upsample_bilinear "
        "glu avg_pool1d avg_pool2d avg_pool3d max_pool1d max_pool2d max_pool3d "
        "max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices "
        "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d "
        "adaptive_max_pool2d adaptive_max_pool3d adaptive_max_pool1d_with_indices "
        "adaptive_max_pool2d_with_indices adaptive_max_pool3d_with_indices lp_pool1d lp_pool2d "
        "lp_pool3d max_unpool1d max_unpool2d max_unpool3d pixel_shuffle pixel_unshuffle",
    ),
    (sample, "grid_sample"),
    (keep_shape, "scatter index_put index_add scatter_add index_copy scatter_reduce index_fill"),
    (
        nothing,
        "stft istft affine_grid bincount histc embedding_bag nonzero unique cdist pdist fold",
    ),
    (nothing, "im2col cross_entropy nll_loss masked_select take fft_fftshift fft_ifftshift"),
    (nothing, "fft_fft2 fft_ifft2 fft_rfft2 fft_irfft2 fft_fftn fft_ifftn fft_rfftn fft_irfftn"),
)
RULES: dict[str, PositionRule] = {name: rule for rule, names in _NAMES for name in names.split()}
