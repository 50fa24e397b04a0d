// What the statistic is: its identity, what an element does to it, and how two states become one.
//
// The Python twin is fmstats/statistic/state.py; fields.h declares the fields for both. This header
// is compiled under several instruction sets and by NVRTC, so it includes nothing else and every
// function in it is static: a shared inline function could be taken from the AVX-512 object and run
// on a machine without AVX-512.
//
// State in memory: 8-byte words, field-major, word(field, channel) = base[field * row + channel].
// Counts are int64, moments are float64 in the same words.
#pragma once

#include "fields.h"

// FMSTATS_MEMBER: a member cannot be static in this sense, so it is always inlined.
#if defined(__CUDACC__)
#define FMSTATS_FN static __host__ __device__ __forceinline__
#define FMSTATS_MEMBER __host__ __device__ __forceinline__
#define FMSTATS_MEMCPY memcpy
#else
#define FMSTATS_FN static inline
#define FMSTATS_MEMBER __attribute__((always_inline)) inline
#define FMSTATS_MEMCPY __builtin_memcpy
#endif

namespace fmstats {

typedef long long i64;

// The rows of a state.
#define FMSTATS_ROW(name, Name, ...) k##Name,
enum Field { FMSTATS_FIELDS(FMSTATS_ROW) kFields };
#undef FMSTATS_ROW

// Which comparisons there are (fields.h): what is left out saves a tenth of the CPU's loop.
#define FMSTATS_MODE_NAME(name, Name) k##Name,
enum Mode { FMSTATS_MODES(FMSTATS_MODE_NAME) kModes };
#undef FMSTATS_MODE_NAME

struct Thresholds {
  double zero_tol;
  double low, high;  // NaN where the layer has no such bound: NaN compares false with everything
};

// The formulas below take one channel (Int = i64, Real = double) or a vector of channels; a choice
// is written `mask ? a : b`, which both have.
template <class Int>
struct Numbers {
  typedef double Real;
  static FMSTATS_MEMBER Real real(Int n) { return static_cast<double>(n); }
  static FMSTATS_MEMBER Int load(const i64* p) { return *p; }
  static FMSTATS_MEMBER Real load(const double* p) { return *p; }
  static FMSTATS_MEMBER void store(i64* p, Int n) { *p = n; }
  static FMSTATS_MEMBER void store(double* p, Real x) { *p = x; }
  static FMSTATS_MEMBER Real from_bits(Int bits) {
    Real x;
    FMSTATS_MEMCPY(&x, &bits, sizeof x);
    return x;
  }
  static FMSTATS_MEMBER Real as_float32(Real x) {
    return static_cast<double>(static_cast<float>(x));
  }
};

// A channel's part of one tensor: exact counts, and sums shifted by a pivot that all parts of the
// same channel share, so that parts add up field by field.
template <class Int, class Real>
struct PartialOf {
#define FMSTATS_COUNT(name, ...) Int name;
#define FMSTATS_REAL(name, ...) Real name;
  FMSTATS_PART_COUNTS(FMSTATS_COUNT)
  FMSTATS_PART_REALS(FMSTATS_REAL)  // sums of what is measured of the finite elements
};

template <class Int, class Real>
struct ChannelStateOf {
  FMSTATS_COUNTS(FMSTATS_COUNT)
  FMSTATS_REALS(FMSTATS_REAL)
#undef FMSTATS_COUNT
#undef FMSTATS_REAL
};

// That a first pivot is the mean of: one channel in some thousands is then read again (reread.h).
constexpr int kSamples = 128;

// No term of a float32 sum is rounded by more additions than this (a multiply-add is one) before
// the sum goes on in float64; every kernel states how it keeps to that.
constexpr int kRoundings = 8;

typedef PartialOf<i64, double> Partial;
typedef ChannelStateOf<i64, double> ChannelState;

FMSTATS_FN double infinity() {
  return Numbers<i64>::from_bits(0x7ff0000000000000);  // NVRTC has no __builtin_inf
}

template <class Real>
FMSTATS_FN Real smaller(Real a, Real b) {
  return b < a ? b : a;
}

template <class Real>
FMSTATS_FN Real larger(Real a, Real b) {
  return b > a ? b : a;
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

template <class Int, class Real>
FMSTATS_FN Int finite_count(const ChannelStateOf<Int, Real>& s) {
  return s.count - s.nan - s.pos_inf - s.neg_inf;
}

template <class Int>
FMSTATS_FN typename Numbers<Int>::Real at_least_one(Int n) {
  return Numbers<Int>::real(n == 0 ? Int{} + 1 : n);
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

// What merging b into a adds to m2: b's own, and that of the distance of the means.
template <class Int, class Real>
FMSTATS_FN Real gained_m2(const ChannelStateOf<Int, Real>& a, const ChannelStateOf<Int, Real>& b) {
  const Int na = finite_count(a), nb = finite_count(b);
  const Real delta = b.mean - a.mean;
  const Real share = Numbers<Int>::real(nb) / at_least_one(na + nb);
  // In this order nothing overflows or underflows that the product does not.
  const Real apart = delta * (Numbers<Int>::real(na) * share) * delta;
  // Where a side is empty its mean means nothing, and delta may overflow.
  return na == 0 ? b.m2 : nb == 0 ? Real{} : b.m2 + apart;
}

// Combine two states as if their data had been seen together (Chan, Golub, LeVeque 1979).
template <class Int, class Real>
FMSTATS_FN ChannelStateOf<Int, Real> merge(const ChannelStateOf<Int, Real>& a,
                                           const ChannelStateOf<Int, Real>& b) {
  const Int na = finite_count(a), nb = finite_count(b);
  const Real share = Numbers<Int>::real(nb) / at_least_one(na + nb);
  const Real delta = b.mean - a.mean;
  // A distance beyond float64 is gone in halves.
  const Real half = (0.5 * b.mean - 0.5 * a.mean) * share;
  const Real mean =
      (delta < 0 ? -delta : delta) < infinity() ? a.mean + delta * share : a.mean + half + half;
  ChannelStateOf<Int, Real> s;
#define FMSTATS_SUM(name, ...) s.name = a.name + b.name;
#define FMSTATS_EXTREME(name, Name, join, ...) s.name = join(a.name, b.name);
  FMSTATS_COUNTS(FMSTATS_SUM)
  FMSTATS_SUMS(FMSTATS_SUM)
  FMSTATS_EXTREMES(FMSTATS_EXTREME)
#undef FMSTATS_SUM
#undef FMSTATS_EXTREME
  s.mean = nb == 0 ? a.mean : na == 0 ? b.mean : mean;
  s.m2 = a.m2 + gained_m2(a, b);
  return s;
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

template <class Int>
FMSTATS_FN ChannelStateOf<Int, typename Numbers<Int>::Real> load_state(const i64* words, i64 row,
                                                                       i64 channel) {
  typedef Numbers<Int> N;
  const double* reals = reinterpret_cast<const double*>(words);
  ChannelStateOf<Int, typename N::Real> s;
#define FMSTATS_COUNT(name, Name, ...) s.name = N::load(words + k##Name * row + channel);
#define FMSTATS_REAL(name, Name, ...) s.name = N::load(reals + k##Name * row + channel);
  FMSTATS_COUNTS(FMSTATS_COUNT)
  FMSTATS_REALS(FMSTATS_REAL)
#undef FMSTATS_COUNT
#undef FMSTATS_REAL
  return s;
}

template <class Int, class Real>
FMSTATS_FN void store_state(i64* words, i64 row, i64 channel, const ChannelStateOf<Int, Real>& s) {
  typedef Numbers<Int> N;
  double* reals = reinterpret_cast<double*>(words);
#define FMSTATS_COUNT(name, Name, ...) N::store(words + k##Name * row + channel, s.name);
#define FMSTATS_REAL(name, Name, ...) N::store(reals + k##Name * row + channel, s.name);
  FMSTATS_COUNTS(FMSTATS_COUNT)
  FMSTATS_REALS(FMSTATS_REAL)
#undef FMSTATS_COUNT
#undef FMSTATS_REAL
}

}  // namespace fmstats
