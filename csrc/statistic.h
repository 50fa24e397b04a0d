// What the statistic is: its fields, its identity, and how two states become one.
//
// The Python twin is fmstats/statistic.py; a test compares field names and order. This header is
// compiled under several instruction sets and by NVRTC, so it includes nothing and every
// function in it is static: a shared inline function could be taken from the AVX-512 object and run
// on a machine without AVX-512.
//
// State in memory: 8-byte words, field-major, word(field, channel) = base[field * row + channel].
// Counts are int64, moments are float64 in the same words.
#pragma once

#if defined(__CUDACC__)
#define FMSTATS_FN static __host__ __device__ __forceinline__
#else
#define FMSTATS_FN static inline
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

// One channel's part of one tensor: exact counts, and sums shifted by a pivot that all parts of the
// same channel share, so that parts add up field by field.
struct Partial {
  i64 nan, pos_inf, neg_inf, zeros, sat_low, sat_high;
  double sum, sum_sq;  // of (x - pivot) over the finite elements
  double min, max;
};

struct ChannelState {
  i64 count, nan, pos_inf, neg_inf, zeros, sat_low, sat_high;
  double mean, m2, min, max;
};

FMSTATS_FN double infinity() {
  return __builtin_inf();
}
FMSTATS_FN double smaller(double a, double b) {
  return b < a ? b : a;
}
FMSTATS_FN double larger(double a, double b) {
  return b > a ? b : a;
}

FMSTATS_FN Partial empty_partial() {
  return {0, 0, 0, 0, 0, 0, 0.0, 0.0, infinity(), -infinity()};
}

FMSTATS_FN void add(Partial& into, const Partial& part) {
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

FMSTATS_FN i64 finite_count(const ChannelState& s) {
  return s.count - s.nan - s.pos_inf - s.neg_inf;
}

// The state of `count` elements whose sums about `pivot` are `part`.
FMSTATS_FN ChannelState to_state(const Partial& part, i64 count, double pivot) {
  ChannelState s = {count,         part.nan, part.pos_inf, part.neg_inf, part.zeros, part.sat_low,
                    part.sat_high, 0.0,      0.0,          part.min,     part.max};
  const i64 n = finite_count(s);
  if (n == 0) return s;
  // -0.0 + 0.0 is +0.0: which zero came first must not show in the bits.
  s.min += 0.0;
  s.max += 0.0;
  if (s.min == s.max) {  // a constant is exact, however its pivot was rounded
    s.mean = s.min;
    return s;
  }
  const double shift = part.sum / static_cast<double>(n);
  s.mean = pivot + shift;
  s.m2 = larger(part.sum_sq - part.sum * shift, 0.0);
  return s;
}

// Combine two states as if their data had been seen together (Chan, Golub, LeVeque 1979).
FMSTATS_FN ChannelState merge(const ChannelState& a, const ChannelState& b) {
  const i64 na = finite_count(a), nb = finite_count(b);
  ChannelState s = {a.count + b.count,
                    a.nan + b.nan,
                    a.pos_inf + b.pos_inf,
                    a.neg_inf + b.neg_inf,
                    a.zeros + b.zeros,
                    a.sat_low + b.sat_low,
                    a.sat_high + b.sat_high,
                    a.mean,
                    a.m2,
                    smaller(a.min, b.min),
                    larger(a.max, b.max)};
  if (nb == 0) return s;
  if (na == 0) {
    s.mean = b.mean;
    s.m2 = b.m2;
    return s;
  }
  const double share = static_cast<double>(nb) / static_cast<double>(na + nb);
  const double delta = b.mean - a.mean;
  s.mean = a.mean + delta * share;
  s.m2 = a.m2 + b.m2 + delta * delta * (static_cast<double>(na) * share);
  return s;
}

// True where sums of float32 products are too coarse and the part must be read again in float64.
//
// Cancellation: the increase of m2 must keep at least two thirds of sum_sq, else the pivot was far
// from the data. A running mean as pivot keeps it whenever the state holds twice as many elements
// as the part, so this is met in the first tensor of a channel or after a jump in scale. Underflow:
// a square below 2^-126 loses bits, by at most 2^-150 each.
FMSTATS_FN bool too_coarse(const Partial& part, i64 n, const ChannelState& before,
                           const ChannelState& after, bool float32_products) {
  if (n == 0 || part.min == part.max) return false;
  const double gained = after.m2 - before.m2;
  if (part.sum_sq > 1.5 * gained) return true;
  return float32_products && gained < static_cast<double>(n) * 0x1p-126;
}

FMSTATS_FN ChannelState load_state(const i64* words, i64 row, i64 channel) {
  const double* reals = reinterpret_cast<const double*>(words);
  ChannelState s;
  s.count = words[kCount * row + channel];
  s.nan = words[kNan * row + channel];
  s.pos_inf = words[kPosInf * row + channel];
  s.neg_inf = words[kNegInf * row + channel];
  s.zeros = words[kZeros * row + channel];
  s.sat_low = words[kSatLow * row + channel];
  s.sat_high = words[kSatHigh * row + channel];
  s.mean = reals[kMean * row + channel];
  s.m2 = reals[kM2 * row + channel];
  s.min = reals[kMin * row + channel];
  s.max = reals[kMax * row + channel];
  return s;
}

FMSTATS_FN void store_state(i64* words, i64 row, i64 channel, const ChannelState& s) {
  double* reals = reinterpret_cast<double*>(words);
  words[kCount * row + channel] = s.count;
  words[kNan * row + channel] = s.nan;
  words[kPosInf * row + channel] = s.pos_inf;
  words[kNegInf * row + channel] = s.neg_inf;
  words[kZeros * row + channel] = s.zeros;
  words[kSatLow * row + channel] = s.sat_low;
  words[kSatHigh * row + channel] = s.sat_high;
  reals[kMean * row + channel] = s.mean;
  reals[kM2 * row + channel] = s.m2;
  reals[kMin * row + channel] = s.min;
  reals[kMax * row + channel] = s.max;
}

}  // namespace fmstats
