// What a part of a tensor is: the pivot that its sums are made about, what an element does to it,
// how parts add up, and the state that they come to.
//
// In memory, between the pass over the data and the merge into the state, parts are field-major
// words as a state's. Word (field, channel) of split s is at
// parts[(s * kPartFields + field) * part_row + channel].
#pragma once

#include "state.h"

namespace fmstats {

#define FMSTATS_ROW(name, Name, ...) kPart##Name,
enum PartField { FMSTATS_PART_FIELDS(FMSTATS_ROW) kPartFields };
#undef FMSTATS_ROW

// Counts come first.
#define FMSTATS_ONE(...) +1
constexpr int kPartCounts = 0 FMSTATS_PART_COUNTS(FMSTATS_ONE);
#undef FMSTATS_ONE

// Which comparisons there are (fields.h): what is left out saves a tenth of the CPU's loop.
#define FMSTATS_MODE_NAME(name, Name) k##Name,
enum Mode { FMSTATS_MODES(FMSTATS_MODE_NAME) kModes };
#undef FMSTATS_MODE_NAME

struct Thresholds {
  double zero_tol;
  double low, high;  // NaN where the layer has no such bound: NaN compares false with everything
};

// A channel's part of one tensor: exact counts, and sums shifted by a pivot that all parts of the
// same channel share, so that parts add up field by field.
template <class Int, class Real>
struct PartialOf {
#define FMSTATS_COUNT(name, ...) Int name;
#define FMSTATS_REAL(name, ...) Real name;
  FMSTATS_PART_COUNTS(FMSTATS_COUNT)
  FMSTATS_PART_REALS(FMSTATS_REAL)  // sums of what is measured of the finite elements
#undef FMSTATS_COUNT
#undef FMSTATS_REAL
};

typedef PartialOf<i64, double> Partial;

// That a first pivot is the mean of: one channel in some thousands is then read again (reread.h).
constexpr int kSamples = 128;

// No term of a float32 sum is rounded by more additions than this (a multiply-add is one) before
// the sum goes on in float64; every kernel states how it keeps to that.
constexpr int kRoundings = 8;

template <class Int, class Real>
FMSTATS_FN Int non_finite_count(const PartialOf<Int, Real>& part) {
  Int count{};
#define FMSTATS_PLUS(name, ...) count += part.name;
  FMSTATS_NON_FINITE(FMSTATS_PLUS)
#undef FMSTATS_PLUS
  return count;
}

FMSTATS_FN Partial empty_partial() {
  Partial part = {};
#define FMSTATS_EXTREME(name, Name, join, side) part.name = side infinity();
  FMSTATS_EXTREMES(FMSTATS_EXTREME)
#undef FMSTATS_EXTREME
  return part;
}

template <class Int, class Real>
FMSTATS_FN void add(PartialOf<Int, Real>& into, const PartialOf<Int, Real>& part) {
#define FMSTATS_SUM(name, ...) into.name += part.name;
#define FMSTATS_EXTREME(name, Name, join, ...) into.name = join(into.name, part.name);
  FMSTATS_PART_COUNTS(FMSTATS_SUM)
  FMSTATS_PART_SUMS(FMSTATS_SUM)
  FMSTATS_EXTREMES(FMSTATS_EXTREME)
#undef FMSTATS_SUM
#undef FMSTATS_EXTREME
}

// Add one element's moments, or its count if it is not finite.
FMSTATS_FN void add_moments(double x, double pivot, Partial& part) {
  if (x != x) {
    ++part.nan;
  } else if (x == infinity()) {
    ++part.pos_inf;
  } else if (x == -infinity()) {
    ++part.neg_inf;
  } else {
    const double d = x - pivot;
    part.sum += d;
    part.sum_sq += d * d;
    part.min = smaller(part.min, x);
    part.max = larger(part.max, x);
  }
}

FMSTATS_FN void add_thresholds(double x, const Thresholds& t, Partial& part) {
  part.zeros += (x < 0 ? -x : x) <= t.zero_tol;
  part.sat_low += x <= t.low;
  part.sat_high += x >= t.high;
}

// What sums are made about: the mean, as a number of the type that the kernels compute in. A state
// that has seen float64 data may have a mean beyond float32: any finite pivot serves, since what is
// far from it is read again.
template <class Int, class Real>
FMSTATS_FN Real pivot_of(const ChannelStateOf<Int, Real>& s, bool float32) {
  const Real most = Real{} + (float32 ? 0x1.fffffep127 : 0x1.fffffffffffffp1023);
  const Real pivot = larger(-most, smaller(most, s.mean));
  return float32 ? Numbers<Int>::as_float32(pivot) : pivot;
}

// Where to look for a first pivot: position number `i` of a few, of `positions`. Golden-ratio
// steps: even ones would meet the same column of every image.
FMSTATS_FN i64 sample_position(int i, i64 positions) {
  if (positions <= kSamples) return i;
  const double at = 0.5 + static_cast<double>(i) * 0.6180339887498949;
  const double part = at - static_cast<double>(static_cast<i64>(at));
  return static_cast<i64>(part * static_cast<double>(positions));
}

// The state of `count` elements whose sums about `pivot` are `part`, all three in units: what was
// summed is x * unit.
template <class Int, class Real>
FMSTATS_FN ChannelStateOf<Int, Real> to_state(const PartialOf<Int, Real>& part, Int count,
                                              Real pivot, double unit = 1.0) {
  ChannelStateOf<Int, Real> s;
  s.count = count;
#define FMSTATS_SUM(name, ...) s.name = part.name;
// -0.0 + 0.0 is +0.0: which zero came first must not show in the bits.
#define FMSTATS_EXTREME(name, ...) s.name = part.name + 0.0;
  FMSTATS_PART_COUNTS(FMSTATS_SUM)
  FMSTATS_SUMS(FMSTATS_SUM)
  FMSTATS_EXTREMES(FMSTATS_EXTREME)
#undef FMSTATS_SUM
#undef FMSTATS_EXTREME
  const Int n = finite_count(s);
  const Real shift = part.sum / at_least_one(n);
  // Squares beyond float64 leave infinity, never what infinity less infinity is.
  const Real m2 = part.sum_sq < infinity() ? larger(part.sum_sq - part.sum * shift, Real{})
                                           : Real{} + infinity();
  // Rounding could lead out of the range, that of a constant too; a sum that overflowed gives any
  // number of it.
  const Real mean = larger(s.min, smaller(s.max, (pivot + shift) / unit));
  s.mean = n == 0 ? Real{} : mean;
  // A constant has no m2, however its pivot was rounded.
  s.m2 = n == 0 ? Real{} : s.min == s.max ? Real{} : m2 / unit / unit;
  return s;
}

}  // namespace fmstats
