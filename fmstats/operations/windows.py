"""Convolutions along time carry a mask on, where the family of a model tells that it is so.

Models of speech take a mask of samples, and tell themselves which of the frames count that
convolutions with a stride make of them. Without padding a frame counts if all samples of its window
do; with padding, which stands for silence, if the sample in the middle of its window does.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from fmstats.operations.position_calls import PositionCall, carried
from fmstats.operations.spreads import Part, Spread


def follow_windows(asked: PositionCall, out: Tensor) -> Spread | None:
    """Follow a convolution along the last dim."""
    call = asked.call
    kernel = call.argument(1, "weight").shape[-1]
    stride, padding, dilation = (
        _only(call.argument(place, name, usual))
        for place, name, usual in ((3, "stride", 1), (4, "padding", 0), (5, "dilation", 1))
    )
    if padding in ("same", "valid"):
        padding = (kernel - 1) * dilation // 2 if padding == "same" else 0

    def carry(part: Part) -> Part | None:
        time = part.view.dim() - 1
        if part.varies(time - 1) or (part.varies(time) and not asked.numbers.is_mask(part.key)):
            return None
        if not part.varies(time):
            return part
        sizes = (kernel, stride, padding, dilation)
        return asked.numbers.derived(part.small(), count_windows, *sizes)

    return carried(asked.spread(call.first), out, carry)


def count_windows(mask: Tensor, kernel: int, stride: int, padding: int, dilation: int) -> Tensor:
    """Return which frames count of a convolution along the last dim of a mask."""
    if padding:
        mask = F.pad(mask, (padding, padding))
    windows = mask.unfold(-1, (kernel - 1) * dilation + 1, stride)[..., ::dilation]
    if padding == 0:
        return windows.all(-1)
    return windows[..., kernel // 2]


def _only(value: object) -> object:
    return value[0] if isinstance(value, (tuple, list)) else value
