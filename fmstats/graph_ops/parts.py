"""This module tells what `partials` of a tensor are, which kernels make and `fold` adds up.

A tensor of a layer is reduced to one number a field, plane and channel. `fold` adds the planes up
and merges each channel into its state, for all layers of a graph at once.
"""

from __future__ import annotations

from fmstats.statistic.fields import MODES

# In the order of the list that `partials` returns; by the mode of the thresholds. Counts are
# float32 where a plane has less than 2^24 positions, else int64; sums are float64, or float32 about
# a pivot; extremes are int32 in the order of floats (`order_key`).
_COUNTS = {
    "plain": ("nan", "pos_inf", "neg_inf", "zeros"),
    "upper": ("nan", "pos_inf", "neg_inf", "zeros", "sat_high"),
    "all": ("nan", "pos_inf", "neg_inf", "zeros", "sat_low", "sat_high"),
}
SUMS = ("sum", "sum_sq")
EXTREMES = ("min", "max")
assert set(_COUNTS) == set(MODES)


def count_names(mode: str) -> tuple[str, ...]:
    """Return the counts that tensors measured in this mode have."""
    return _COUNTS[mode]


def part_names(mode: str, *, pivoted: bool) -> tuple[str, ...]:
    """Return the names of the partials of a tensor, in their order.

    Args:
        mode: of the thresholds.
        pivoted: whether sums are float32 about a pivot, which is the last one then: (channels,).
    """
    return (*_COUNTS[mode], *SUMS, *EXTREMES, *(("pivot",) if pivoted else ()))
