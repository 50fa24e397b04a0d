"""This module tells what `partials` of a tensor are, from Inductor's kernels to `fold`.

A tensor of a layer is reduced to one number a field, plane and channel, all in one tensor
(`statistic/partials.py`). `fold` adds the planes up and merges each channel into its state, for all
layers of a graph at once. Counts are packed (`statistic/packing.py`); sums are float64; extremes
are int32 in the order of floats (`float_order.order_keys`), those of the infinities where nothing
is finite.
"""

from __future__ import annotations

from fmstats.statistic import fields
from fmstats.statistic.packing import count_names
from fmstats.statistic.partials import ALL_SUMS as SUMS
from fmstats.statistic.partials import count_words, join, part_dtype, part_words

__all__ = ["EXTREMES", "SUMS", "count_names", "count_words", "join", "part_dtype", "part_words"]

EXTREMES = fields.EXTREMES
