"""The fields of the statistic: what is known of each channel.

The C++ twin is `Field` in csrc/statistic.h; a test compares names and order.
"""

from __future__ import annotations

COUNTS = ("count", "nan", "pos_inf", "neg_inf", "zeros", "sat_low", "sat_high")
MOMENTS = ("mean", "m2", "min", "max")
FIELDS = COUNTS + MOMENTS
