"""These constants tell kernels which row of a state or a part each field has."""

from __future__ import annotations

import triton.language as tl

from fmstats.backends.triton.plan import REPLAYS
from fmstats.statistic import fields
from fmstats.statistic.clock import WORDS


def _row(field: str) -> tl.constexpr:
    return tl.constexpr(fields.FIELDS.index(field))


def _part_row(field: str) -> tl.constexpr:
    return tl.constexpr(fields.PART_FIELDS.index(field))


COUNT, NAN, POS_INF, NEG_INF = map(_row, ("count", "nan", "pos_inf", "neg_inf"))
ZEROS, SAT_LOW, SAT_HIGH = map(_row, ("zeros", "sat_low", "sat_high"))
FIRST_PASS, FIRST_STEP = map(_row, ("first_pass", "first_step"))
# What a launch says of graphs, see `before.closed`.
NOT, REPLAYED, COUNTED = map(tl.constexpr, REPLAYS)
# The words of a clock.
NOW_PASS, NOW_STEP = (tl.constexpr(fields.FIRSTS.index(f)) for f in ("first_pass", "first_step"))
ALARM, ENABLED, PHASE = (tl.constexpr(WORDS.index(w)) for w in ("alarm", "enabled", "phase"))
MEAN, M2, MIN, MAX = map(_row, ("mean", "m2", "min", "max"))

PART_NAN, PART_POS_INF, PART_NEG_INF = map(_part_row, ("nan", "pos_inf", "neg_inf"))
PART_ZEROS, PART_SAT_LOW, PART_SAT_HIGH = map(_part_row, ("zeros", "sat_low", "sat_high"))
PART_SUM, PART_SUM_SQ, PART_MIN, PART_MAX = map(_part_row, ("sum", "sum_sq", "min", "max"))
WORDS_OF_CHANNEL = tl.constexpr(len(fields.FIELDS))
PIVOT = tl.constexpr(len(fields.PART_FIELDS))  # what the sums of a part are about
PART_WORDS = tl.constexpr(len(fields.PART_FIELDS) + 1)
PART_COUNT = PART_WORDS  # where only some positions count, one more word tells how many
