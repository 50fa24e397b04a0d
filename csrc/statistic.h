// What the statistic is: its fields, its identity, and how two states become one.
//
// The Python twin is fmstats/statistic/state.py; a test compares field names and order. This header is
// compiled under several instruction sets and by NVRTC, so it includes nothing and every
// function in it is static: a shared inline function could be taken from the AVX-512 object and run
// on a machine without AVX-512.
//
// State in memory: 8-byte words, field-major, word(field, channel) = base[field * row + channel].
// Counts are int64, moments are float64 in the same words.
#pragma once

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

enum Field {
  kCount,    // elements seen, finite or not
  kNan,      // NaN elements
  kPosInf,   // +inf elements
  kNegInf,   // -inf elements
  kZeros,    // |x| <= zero_tol
  kSatLow,   // x <= low bound
  kSatHigh,  // x >= high bound
  kMean,     // over the finite elements, as the three below
  kM2,       // sum of squared deviations from the mean
  kMin,
  kMax,
  kFields
};

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
  Int nan, pos_inf, neg_inf, zeros, sat_low, sat_high;
  Real sum, sum_sq;  // of (x - pivot) over the finite elements
  Real min, max;
};

template <class Int, class Real>
struct ChannelStateOf {
  Int count, nan, pos_inf, neg_inf, zeros, sat_low, sat_high;
  Real mean, m2, min, max;
};

// That a first pivot is the mean of: one channel in some thousands is then read again (again.h).
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
  return {0, 0, 0, 0, 0, 0, 0.0, 0.0, infinity(), -infinity()};
}

template <class Int, class Real>
FMSTATS_FN void add(PartialOf<Int, Real>& into, const PartialOf<Int, Real>& part) {
  into.nan += part.nan;
  into.pos_inf += part.pos_inf;
  into.neg_inf += part.neg_inf;
  into.zeros += part.zeros;
  into.sat_low += part.sat_low;
  into.sat_high += part.sat_high;
  into.sum += part.sum;
  into.sum_sq += part.sum_sq;
  into.min = smaller(into.min, part.min);
  into.max = larger(into.max, part.max);
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
  ChannelStateOf<Int, Real> s = {count,      part.nan,     part.pos_inf,  part.neg_inf,
                                 part.zeros, part.sat_low, part.sat_high, Real{},
                                 Real{},     part.min,     part.max};
  // -0.0 + 0.0 is +0.0: which zero came first must not show in the bits.
  s.min += 0.0;
  s.max += 0.0;
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
  return {a.count + b.count,       a.nan + b.nan,
          a.pos_inf + b.pos_inf,   a.neg_inf + b.neg_inf,
          a.zeros + b.zeros,       a.sat_low + b.sat_low,
          a.sat_high + b.sat_high, nb == 0 ? a.mean : na == 0 ? b.mean : mean,
          a.m2 + gained_m2(a, b),  smaller(a.min, b.min),
          larger(a.max, b.max)};
}

// Fold one element's moments, or its count if it is not finite.
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
  return {N::load(words + kCount * row + channel),   N::load(words + kNan * row + channel),
          N::load(words + kPosInf * row + channel),  N::load(words + kNegInf * row + channel),
          N::load(words + kZeros * row + channel),   N::load(words + kSatLow * row + channel),
          N::load(words + kSatHigh * row + channel), N::load(reals + kMean * row + channel),
          N::load(reals + kM2 * row + channel),      N::load(reals + kMin * row + channel),
          N::load(reals + kMax * row + channel)};
}

template <class Int, class Real>
FMSTATS_FN void store_state(i64* words, i64 row, i64 channel, const ChannelStateOf<Int, Real>& s) {
  typedef Numbers<Int> N;
  double* reals = reinterpret_cast<double*>(words);
  N::store(words + kCount * row + channel, s.count);
  N::store(words + kNan * row + channel, s.nan);
  N::store(words + kPosInf * row + channel, s.pos_inf);
  N::store(words + kNegInf * row + channel, s.neg_inf);
  N::store(words + kZeros * row + channel, s.zeros);
  N::store(words + kSatLow * row + channel, s.sat_low);
  N::store(words + kSatHigh * row + channel, s.sat_high);
  N::store(reals + kMean * row + channel, s.mean);
  N::store(reals + kM2 * row + channel, s.m2);
  N::store(reals + kMin * row + channel, s.min);
  N::store(reals + kMax * row + channel, s.max);
}

}  // namespace fmstats
