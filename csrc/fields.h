// What is measured of a channel: the one declaration of the statistic's fields. C++ and CUDA expand
// these lists, fmstats/statistic/fields.py reads them as text, and all else follows from either.
// docs/field.md tells how to add one.
//
// Each list is of one kind, which says what a field is of no data, how the parts of a tensor add up
// and how states merge. X(name, Name, ...): the field is `name` in Python, files and tables and as
// a member of structs here; kName is its row in a state, kPartName in a part.
#pragma once

// Which comparisons a kernel is compiled with, each mode with those of the ones before it:
// |x| <= zero_tol where that is 0; x >= high as well (ReLU6); all, with a tolerance.
#define FMSTATS_MODES(X) X(plain, Plain) X(upper, Upper) X(all, All)

// The number of elements. It is known from a tensor's shape, so parts have no such word.
#define FMSTATS_TOTAL(X) X(count, Count)

// Counts of elements that are no finite numbers: blocks that hold one are read again for them.
#define FMSTATS_NON_FINITE(X) X(nan, Nan) X(pos_inf, PosInf) X(neg_inf, NegInf)

// Counts of comparisons, which are right for every value, NaN and infinities included: the fast
// loops make them and never take them back. X(.., mode): the first mode that makes it.
#define FMSTATS_COMPARISONS(X) \
  X(zeros, Zeros, Plain)       \
  X(sat_low, SatLow, All)      \
  X(sat_high, SatHigh, Upper)

// Sums over finite elements about a pivot that all parts of a channel share; parts alone have them.
#define FMSTATS_PIVOTED(X) X(sum, Sum) X(sum_sq, SumSq)

// What a state makes of those, by formulas of its own (parts.h, state.h): float64, 0 of no data.
#define FMSTATS_MOMENTS(X) X(mean, Mean) X(m2, M2)

// Further sums over finite elements, which add up in parts and states alike.
#define FMSTATS_SUMS(X)

// Extremes of finite elements. X(.., join, side): `smaller` or `larger` of two, and the infinity,
// + or -, that stands for no data.
#define FMSTATS_EXTREMES(X) \
  X(min, Min, smaller, +)   \
  X(max, Max, larger, -)

// When a channel first saw an element that is no finite number: int64, the smaller of two states,
// 2^63 - 1 of no data and of finite data. Kernels take each from the clock that they are given.
#define FMSTATS_FIRSTS(X) X(first_pass, FirstPass) X(first_step, FirstStep)

// What is measured on request: float64, 0 of no data, over finite elements. A state that has any
// has them behind all its other words, in this order. X(.., measure): the one that it belongs to.
#define FMSTATS_REQUESTED(X) \
  X(sum_abs, SumAbs, abs)    \
  X(m3, M3, kurtosis)        \
  X(m4, M4, kurtosis)

// The words of a state, in their order: counts and firsts are int64, the others float64.
#define FMSTATS_COUNTS(X) FMSTATS_TOTAL(X) FMSTATS_PART_COUNTS(X)
#define FMSTATS_REALS(X) FMSTATS_MOMENTS(X) FMSTATS_SUMS(X) FMSTATS_EXTREMES(X)
#define FMSTATS_FIELDS(X) FMSTATS_COUNTS(X) FMSTATS_REALS(X) FMSTATS_FIRSTS(X)

// The words of a part, in theirs.
#define FMSTATS_PART_COUNTS(X) FMSTATS_NON_FINITE(X) FMSTATS_COMPARISONS(X)
#define FMSTATS_PART_SUMS(X) FMSTATS_PIVOTED(X) FMSTATS_SUMS(X)
#define FMSTATS_PART_REALS(X) FMSTATS_PART_SUMS(X) FMSTATS_EXTREMES(X)
#define FMSTATS_PART_FIELDS(X) FMSTATS_PART_COUNTS(X) FMSTATS_PART_REALS(X)
