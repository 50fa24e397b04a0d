// Which channels are read again, since their sums are too coarse for the accuracy promised, and
// how: in float64, with what its roundings leave over. Compiled wherever state.h is, by the
// same rules.
#pragma once

#include "parts.h"

namespace fmstats {

// The largest sum_sq, in what it gains m2, that is precise enough. A bound, with u = 2^-24, of the
// errors of what float32 sums make of n elements:
//
//   d = x - pivot is rounded once, so d * d is off by at most 2u; with the roundings of the sum,
//   sum_sq is off by (kRoundings + 2) u sum_sq, and sum by kRoundings u sum |d| (its first addition
//   is exact), at most kRoundings u sqrt(n sum_sq);
//   sum enters m2 as -sum^2 / n + (mean - mean of the state)^2 n share, so that its error does as
//   2 |sum| / n (1 - share), where (sum / n)^2 n (1 - share) = sum_sq - gained: a pivot is the
//   state's mean;
//   with f = sum_sq / gained, m2 is then off by at most
//   f (kRoundings + 2 + 2 kRoundings sqrt(1 - 1 / f)) u of what it gains.
//
// For f = 1.1 that is 16.3 u = 0.98e-6, of the 1e-6 promised; gains add up to m2, so that no number
// of tensors makes it more. The mean is off by kRoundings sqrt(f) u = 0.51e-6 deviations.
// (tests/test_accuracy.py works this out from the constants.)
constexpr double kCoarse = 1.1;

// Squares below this lose bits where products are made in float32, or in float64.
FMSTATS_FN double smallest_square(bool float32) {
  return float32 ? 0x1p-126 : 0.0;
}

// True where the sums of a part are too coarse and the channel must be read again, in float64.
//
// Cancellation: the pivot was far from the data. A running mean as pivot is near enough whenever
// the state holds eleven times as many elements as the part, so this is met in the first tensors of
// a channel or after a jump in scale. Underflow: a square below 2^-126 loses bits, by at most
// 2^-150 each; `smallest` is 2^-126 for float32 products, else 0. Overflow: squares of float64 data
// that are beyond it.
template <class Int, class Real>
FMSTATS_FN auto too_coarse(const PartialOf<Int, Real>& part,
                           const ChannelStateOf<Int, Real>& before,
                           const ChannelStateOf<Int, Real>& batch, double smallest,
                           double coarse = kCoarse) {
  const Real gained = gained_m2(before, batch);
  const Real floor = Numbers<Int>::real(finite_count(batch)) * smallest;
  // Nothing finite leaves min = inf > max, a constant min = max: both are exact as they are.
  return (part.min < part.max) &
         ((part.sum_sq > coarse * gained) | (gained < floor) | (part.sum_sq == infinity()));
}

// How a channel is read again: its sums are of x * unit - pivot.
struct Again {
  double pivot, unit;
};

FMSTATS_FN Again read_again(const Partial& part, const ChannelState& batch) {
  // In units of 2^600 no sum of squares overflows: what m2 then comes to is true, infinity too.
  const double unit = part.sum_sq == infinity() ? 0x1p-600 : 1.0;
  return {batch.mean * unit, unit};
}

// A float64 sum and what its roundings left over (Knuth's two-sum): its error does not grow with
// the number of terms.
struct ExactSum {
  double sum, rest;
};

FMSTATS_FN void add_exactly(double x, ExactSum& to) {
  const double sum = to.sum + x, back = sum - to.sum;
  to.rest += (to.sum - (sum - back)) + (x - back);
  to.sum = sum;
}

// Add one element of a channel that is read again; NaN and infinities have been counted.
FMSTATS_FN void add_again(double x, const Again& again, ExactSum& sum, ExactSum& sum_sq) {
  if (!((x < 0 ? -x : x) < infinity())) return;
  const double d = x * again.unit - again.pivot;
  add_exactly(d, sum);
  add_exactly(d * d, sum_sq);
}

}  // namespace fmstats
