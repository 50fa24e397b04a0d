"""Compute the receptive field and stride of a feature map in pixels of the input.

Size and stride follow every tensor of a convolution net from operation to operation (Araujo,
Norris, Sim 2019, "Computing Receptive Fields of Convolutional Neural Networks"): a window of k
with dilation d, moved by s, adds (k - 1) d strides to the size and multiplies the stride by s.
Where branches meet, the larger size counts. Borders are not cut off: the field of a deep layer may
exceed the image. Behind an upsampling the size differs from element to element; the mean is
followed, and rounded up when shown. Norms count as what they are at inference in most nets, a
scale and a shift, and so do gates with one number a channel (squeeze and excitation).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from fmstats.analysis.storages import is_nested


@dataclass(frozen=True)
class Field:
    """Describes what an element sees of the input, by spatial dim.

    Attributes:
        size: pixels of the input.
        stride: pixels of the input between neighbours.
        positions: how many elements a channel of the tensor has, all samples together.
    """

    size: tuple[float, ...]
    stride: tuple[float, ...]
    positions: int


EVERYTHING = Field((), (), 0)  # or unknown: a layout that is not followed

Rule = Callable[[Field, Sequence[Any], Any], Field]


def of_input(x: Tensor) -> Field | None:
    """Return the field of a model's input (N, C, *spatial) with 1 to 3 spatial dims; else None."""
    spatial = x.dim() - 2
    if not 1 <= spatial <= 3 or not x.is_floating_point():
        return None
    return Field((1,) * spatial, (1.0,) * spatial, _positions(x))


def of_output(
    name: str, args: Sequence[Any], out: Any, field_of: Callable[[Tensor], Field | None]
) -> Field | None:
    """Return the field of the output of operation `name`, given the fields of `args`.

    None: it comes from no input with spatial dims.
    """
    seen = [(t, field) for t in _tensors(args) if (field := field_of(t)) is not None]
    if name == "mul" and isinstance(out, Tensor):
        seen = [s for s in seen if s[1] is not EVERYTHING or not _is_gate(s[0], out)] or seen
    fields = [field for _, field in seen]
    if not fields:
        return None
    first = fields[0]
    if any(len(f.size) != len(first.size) or f is EVERYTHING for f in fields):
        return EVERYTHING
    if any(is_nested(t) for t in (*_tensors(args), *_tensors((out,)))):
        return EVERYTHING
    rule = _RULES.get(name)
    if rule is not None and name != "cat":
        return rule(first, args, out)
    if len(fields) > 1:
        first = replace(first, size=tuple(map(max, *(f.size for f in fields))))
    return first if rule is None else rule(first, args, out)


def _is_gate(x: Tensor, out: Tensor) -> bool:
    """Return whether a factor has fewer numbers than the product, such as one per channel."""
    return x.untyped_storage().nbytes() // x.itemsize < out.numel()


def _windows(
    field: Field,
    x: Tensor,
    out: Any,
    kernel: Any,
    stride: Any,
    dilation: Any = 1,
    up: bool = False,
) -> Field:
    dims = len(field.size)
    out = out[0] if isinstance(out, tuple | list) else out
    # A slice, a patch made by reshaping: their views are not followed, but have other positions.
    if out.dim() < dims + 2 or _positions(x) != field.positions:
        return EVERYTHING
    flat = out.dim() - 2 - dims  # Pooling in 1-d is pooling in 2-d with a dim of length 1.
    if any(n != 1 for n in out.shape[2 : 2 + flat]):
        return EVERYTHING
    sizes, strides, spread = (_spread(v, dims + flat)[flat:] for v in (kernel, stride, dilation))
    steps: list[float]
    if up:
        reach = [_reach_up(*window) for window in zip(sizes, strides, spread, strict=True)]
        steps = [j / s for j, s in zip(field.stride, strides, strict=True)]
    else:
        reach = [(k - 1) * d for k, d in zip(sizes, spread, strict=True)]
        steps = [j * s for j, s in zip(field.stride, strides, strict=True)]
    seen = [f + r * j for f, r, j in zip(field.size, reach, field.stride, strict=True)]
    return Field(tuple(seen), tuple(steps), _positions(out))


def _reach_up(kernel: int, stride: int, dilation: int) -> int:
    """Return the distance between the first and last input that a transposed convolution sees.

    Of the offsets 0, d, 2d, ... those count that differ by a multiple of the stride.
    """
    period = stride // math.gcd(stride, dilation)
    return (kernel - 1) // period * period * dilation // stride


def _convolution(field: Field, args: Sequence[Any], out: Any) -> Field:
    kernel, (stride, _, dilation, transposed) = args[1].shape[2:], args[3:7]
    return _windows(field, args[0], out, list(kernel), stride, dilation, transposed)


def _pooling(field: Field, args: Sequence[Any], out: Any) -> Field:
    stride = args[2] if len(args) > 2 and args[2] else args[1]
    return _windows(field, args[0], out, args[1], stride, args[4] if len(args) > 4 else 1)


def _average(field: Field, args: Sequence[Any], out: Any) -> Field:
    stride = args[2] if len(args) > 2 and args[2] else args[1]
    return _windows(field, args[0], out, args[1], stride)


def _resizing(taps: int) -> Rule:
    """Make a rule for an interpolation that reads so many neighbours along each dim."""

    def resize(field: Field, args: Sequence[Any], out: Any) -> Field:
        if out.dim() != len(field.size) + 2 or _positions(args[0]) != field.positions:
            return EVERYTHING
        size = [f + (taps - 1) * j for f, j in zip(field.size, field.stride, strict=True)]
        scale = [a / b for a, b in zip(args[0].shape[2:], out.shape[2:], strict=True)]
        stride = [j * s for j, s in zip(field.stride, scale, strict=True)]
        return Field(tuple(size), tuple(stride), _positions(out))

    return resize


def _resized_in_place(field: Field, args: Sequence[Any], out: Any) -> Field:
    """Keep the field in padding and concatenation, which only change the number of positions."""
    parts = args[0] if isinstance(args[0], list | tuple) else [args[0]]
    same = any(_positions(t) == field.positions for t in parts if t.dim() > 1)
    return replace(field, positions=_positions(out)) if same else field


def _everything(field: Field, args: Sequence[Any], out: Any) -> Field:
    return EVERYTHING


def _product(field: Field, args: Sequence[Any], out: Any) -> Field:
    """Return the field of a matrix product, which keeps it if its rows are positions."""
    return field if out.dim() == 2 and out.shape[0] == field.positions else EVERYTHING


def _layer_norm(field: Field, args: Sequence[Any], out: Any) -> Field:
    return field if args[0].numel() // math.prod(args[1]) == field.positions else EVERYTHING


def _along(place: int) -> Rule:
    """Make a rule for combining, or picking from, the dims in argument `place` (none: all).

    Over channels it keeps the positions, else it sees everything.
    """

    def combine(field: Field, args: Sequence[Any], out: Any) -> Field:
        dims = args[place] if len(args) > place else None
        if dims is None or isinstance(dims, torch.Tensor):
            return EVERYTHING
        listed = dims if isinstance(dims, list | tuple) else [dims]
        return field if {d % args[0].dim() for d in listed} == {1} else EVERYTHING

    return combine


def _tensors(args: Sequence[Any]) -> list[Tensor]:
    found: list[Tensor] = []
    for arg in args:
        if isinstance(arg, Tensor):
            found.append(arg)
        elif isinstance(arg, list | tuple):
            found += [t for t in arg if isinstance(t, Tensor)]
    return found


def _positions(x: Tensor) -> int:
    return int(x.numel()) // max(int(x.shape[1]), 1)


def _spread(value: Any, dims: int) -> list[int]:
    values = list(value) if isinstance(value, list | tuple) else [value]
    return values * dims if len(values) == 1 else values


def _each(names: str, rule: Rule) -> dict[str, Rule]:
    return dict.fromkeys(names.split(), rule)


_RULES: dict[str, Rule] = {
    **_each("convolution _convolution", _convolution),
    **_each("max_pool2d_with_indices max_pool3d_with_indices max_pool1d", _pooling),
    **_each("avg_pool1d avg_pool2d avg_pool3d", _average),
    **_each("upsample_nearest1d upsample_nearest2d upsample_nearest3d", _resizing(1)),
    **_each("_upsample_nearest_exact1d _upsample_nearest_exact2d", _resizing(1)),
    **_each("upsample_linear1d upsample_bilinear2d upsample_trilinear3d", _resizing(2)),
    "upsample_bicubic2d": _resizing(4),
    **_each("cat constant_pad_nd", _resized_in_place),
    **_each("reflection_pad1d reflection_pad2d reflection_pad3d", _resized_in_place),
    **_each("replication_pad1d replication_pad2d replication_pad3d", _resized_in_place),
    **_each("mm addmm", _product),
    "native_layer_norm": _layer_norm,
    **_each("mean sum amax amin var std max min argmax argmin prod all any", _along(1)),
    **_each("_softmax _log_softmax logsumexp index_select flip sort cumsum", _along(1)),
    **_each("linalg_vector_norm topk", _along(2)),
    **_each("bmm baddbmm mv roll gather index mkldnn_rnn_layer grid_sampler_2d", _everything),
    **_each("_adaptive_avg_pool2d _adaptive_avg_pool3d im2col col2im", _everything),
    **_each("adaptive_max_pool2d adaptive_max_pool3d pixel_shuffle", _everything),
    **_each("fractional_max_pool2d fractional_max_pool3d pixel_unshuffle", _everything),
    **_each("_upsample_bilinear2d_aa _upsample_bicubic2d_aa grid_sampler_3d", _everything),
    **_each("_scaled_dot_product_flash_attention_for_cpu", _everything),
    **_each("_scaled_dot_product_flash_attention", _everything),
    **_each("_scaled_dot_product_efficient_attention", _everything),
    **_each("_scaled_dot_product_fused_attention_overrideable", _everything),
}
