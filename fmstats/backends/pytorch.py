"""The torch backend runs plain PyTorch operations, on any device.

It reads the tensor several times, never waits for the device, and bounds its float64 temporaries by
taking large tensors in pieces.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fmstats.backends.base import Backend
from fmstats.statistic.clock import Clock
from fmstats.statistic.float_order import INFINITY, at_places, place_of, places, to_float64
from fmstats.statistic.groups import split_groups
from fmstats.statistic.measures import ALWAYS, Measures
from fmstats.statistic.state import State
from fmstats.statistic.thresholds import Thresholds
from fmstats.statistic.view import Positions, View

PIECE = 1 << 22  # elements: 32 MB for each float64 temporary


class TorchBackend(Backend):
    """This backend measures tensors on any device with plain PyTorch operations."""

    name = "torch"
    in_graphs = True

    def describe(self) -> str:
        return f"plain operations of PyTorch {torch.__version__}"

    def captures(self, device: torch.device) -> bool:
        if device.type == "cpu":
            return False
        asked = getattr(torch.get_device_module(device), "is_current_stream_capturing", None)
        return asked is not None and bool(asked())

    def accumulate(
        self,
        state: State,
        x: Tensor,
        view: View,
        thresholds: Thresholds,
        clock: Clock | None = None,
        positions: Positions | None = None,
    ) -> None:
        sizes = (view.channels, *(size for size, _ in view.dims))
        strides = (view.channel_stride, *(stride for _, stride in view.dims))
        clock = Clock(x.device) if clock is None else clock
        replayed = self.captures(x.device)
        before = state.clone() if replayed else state
        # Beside each piece, the groups of its positions; None: all count.
        here = None if positions is None else positions.of(view)[None]
        groups = split_groups(state, view.channels)
        pieces = [(x.detach().as_strided(sizes, strides), here)] if x.numel() else []
        while pieces:
            piece, here = pieces.pop()
            longest = max(range(1, piece.dim()), key=lambda d: piece.shape[d])
            if piece.numel() > PIECE and piece.shape[longest] > 1:
                first, second = piece.tensor_split(2, longest)
                here, other = (None, None) if here is None else here.tensor_split(2, longest)
                pieces += [(second, other), (first, here)]
            else:
                for k, group in enumerate(groups, 1):
                    counted = None if here is None else here == k
                    batch = measure(piece, thresholds, counted, state.measures)
                    clock.stamp(batch, replayed=replayed)
                    group.merge_(batch)
        if replayed:
            opens = clock.opens()
            for now, then in ((state.words, before.words), (state.bins, before.bins)):
                if now is not None and then is not None:
                    now.copy_(torch.where(opens, now, then))
            if state.memory is not None:
                state.memory[-1:].add_(opens)


def measure(
    x: Tensor, thresholds: Thresholds, here: Tensor | None = None, measures: Measures = ALWAYS
) -> State:
    """Return the state of `x`, (channels, *positions), no dim of it empty.

    Args:
        x: what is measured.
        thresholds: what counts as zero and as saturated.
        here: bool, (1, *positions), which of them count; None: all do.
        measures: what is measured beside what always is.
    """
    x = to_float64(x)
    at = places(x)
    over = tuple(range(1, x.dim()))

    def count(where: Tensor) -> Tensor:
        return (where if here is None else where & here).sum(over, dtype=torch.int64)

    none = torch.zeros(x.shape[0], dtype=torch.int64, device=x.device)
    finite, numbers = at.abs() < INFINITY, at.abs() <= INFINITY
    finite = finite if here is None else finite & here
    n = count(finite)
    per_channel = (-1,) + (1,) * len(over)
    low = torch.where(finite, at, INFINITY).amin(over)
    high = torch.where(finite, at, -INFINITY).amax(over)
    constant = low == high
    low, high = at_places(low), at_places(high)
    # About the middle of the range first: the plain sum of a large mean loses digits.
    pivot = torch.where(n > 0, 0.5 * low + 0.5 * high, 0.0)
    # Where squares may be beyond float64, in units of 2^600: m2 is infinite where it truly is.
    vast = (n > 0) & (0.5 * high - 0.5 * low > 2.0**400)
    unit = torch.where(vast, 2.0**-600, torch.ones_like(pivot))
    d = x * unit.view(per_channel) - (pivot * unit).view(per_channel)
    d = torch.where(finite, d, 0.0)
    shift = d.sum(over) / n.clamp(min=1)
    d = torch.where(finite, d - shift.view(per_channel), 0.0)
    mean = ((pivot * unit + shift) / unit).clamp(low, high)  # rounding could lead beyond
    m2 = d.square().sum(over) / unit / unit
    requested, bins = _measure_requested(x, d, finite, unit, constant, measures)
    return State.of(
        requested
        | {
            "count": none + (x[0].numel() if here is None else here.sum()),
            "nan": count(~numbers),
            "pos_inf": count(at == INFINITY),
            "neg_inf": count(at == -INFINITY),
            "zeros": count(at.abs() <= place_of(thresholds.zero_tol)),
            "sat_low": none
            if thresholds.low is None
            else count(numbers & (at <= place_of(thresholds.low))),
            "sat_high": none
            if thresholds.high is None
            else count(numbers & (at >= place_of(thresholds.high))),
            "mean": torch.where(constant, low, mean),
            "m2": torch.where(constant, 0.0, m2),
            "min": low,
            "max": high,
        },
        measures,
        bins,
    )


def _measure_requested(
    x: Tensor, d: Tensor, finite: Tensor, unit: Tensor, constant: Tensor, measures: Measures
) -> tuple[dict[str, Tensor], Tensor | None]:
    """Return the requested fields and the histograms of `x`.

    Args:
        x: what is measured, float64.
        d: its deviations from the mean in units, 0 where they do not count.
        finite: which elements count.
        unit: of each channel.
        constant: channels whose elements are one number.
        measures: what is asked for.
    """
    over = tuple(range(1, x.dim()))
    fields = {}
    if "abs" in measures.sums:
        fields["sum_abs"] = torch.where(finite, x, 0.0).abs().sum(over)
    if "kurtosis" in measures.sums:
        for field, power in (("m3", 3), ("m4", 4)):
            moment = d.pow(power).sum(over)
            for _ in range(power):
                moment = moment / unit
            fields[field] = torch.where(constant, 0.0, moment)
    if measures.bins is None:
        return fields, None
    shape = (1 if measures.bins.scope == "layer" else x.shape[0], -1)
    counted = finite.expand(x.shape).reshape(shape)
    return fields, measures.bins.count(x.reshape(shape), counted)
