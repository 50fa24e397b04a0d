// What a thread accumulates of a pack: of kPack channels side by side (columns), or of kPack
// elements of one channel at a time (rows).
//
// At most kRoundings elements are added up in float32, then `settle` takes the sums on in float64.
// A chunk is a stretch of kChunkElements for each sum. One whose sums of squares are finite holds
// no NaN, no infinity and no overflow; any other is read again exactly, its sums, minimum and
// maximum dropped.
#pragma once

#include "args.h"
#include "elements.cuh"

namespace fmstats {

constexpr int kChunkElements = 128;

template <class E>
struct Limits {
  typename E::Pack tol, low, high;
  __device__ explicit Limits(const CudaArgs& a)
      : tol(E::from_bits(a.limits[0])),
        low(E::from_bits(a.limits[1])),
        high(E::from_bits(a.limits[2])) {}
};

__device__ __forceinline__ float multiply_add(float a, float b, float c) {
  return __fmaf_rn(a, b, c);
}
__device__ __forceinline__ double multiply_add(double a, double b, double c) {
  return __fma_rn(a, b, c);
}

template <class E, int kMode>
struct Lane {
  typedef typename E::Real Real;
  typedef typename E::Pack Pack;
  static constexpr int kPack = E::kPack;
  static constexpr bool kSettles = sizeof(Real) == 4;
  Real sum[kPack], sum_sq[kPack];  // since they were settled; of float32
  double total[kPack], total_sq[kPack];
  Pack min, max;
  unsigned zeros, low, high;  // sums of marks

  __device__ __forceinline__ void begin() {
    forget_sums();
    forget_range();
    zeros = low = high = 0;
  }

  __device__ __forceinline__ void take(Pack x, const Real* pivot, const Limits<E>& limits) {
#pragma unroll
    for (int c = 0; c < kPack; ++c) add(E::real(x, c) - pivot[c], c);
    compare(x, limits);
  }

  // Those elements alone whose marks are set.
  __device__ __forceinline__ void take_some(Pack x, unsigned present, const Real* pivot,
                                            const Limits<E>& limits) {
    if constexpr (kPack == 1) {
      if (present) take(x, pivot, limits);
    } else {
#pragma unroll
      for (int c = 0; c < kPack; ++c) {
        add((present >> (16 * c) & 1) ? E::real(x, c) - pivot[c] : Real(0), c);
      }
      compare(x | ~present, limits);  // ones are a NaN
    }
  }

  // To be called after at most kRoundings elements of a pack's place.
  __device__ __forceinline__ void settle() {
    if constexpr (kSettles) {
#pragma unroll
      for (int c = 0; c < kPack; ++c) {
        total[c] += static_cast<double>(sum[c]);
        total_sq[c] += static_cast<double>(sum_sq[c]);
        sum[c] = sum_sq[c] = 0;
      }
    }
  }

  __device__ __forceinline__ bool is_finite() const {
    bool finite = true;
#pragma unroll
    for (int c = 0; c < kPack; ++c) {
      finite &= total_sq[c] < infinity();
      if (E::kHidesNan) finite &= !E::hides_nan(E::real(min, c)) & !E::hides_nan(E::real(max, c));
    }
    return finite;
  }

  // Drop what a chunk that is not finite spoils; marks are right for every value.
  __device__ __forceinline__ void drop_moments() {
    forget_sums();
    forget_range();
  }

  // What element c of the packs came to; no infinities or NaN are among them.
  __device__ __forceinline__ Partial part(int c) const {
    Partial p = empty_partial();
    p.zeros = E::marked(zeros, c);
    if (kMode == kAll) p.sat_low = E::marked(low, c);
    if (kMode != kPlain) p.sat_high = E::marked(high, c);
    p.sum = total[c];
    p.sum_sq = total_sq[c];
    p.min = static_cast<double>(E::real(min, c));
    p.max = static_cast<double>(E::real(max, c));
    return p;
  }

 private:
  __device__ __forceinline__ void forget_sums() {
#pragma unroll
    for (int c = 0; c < kPack; ++c) total[c] = total_sq[c] = sum[c] = sum_sq[c] = 0;
  }
  __device__ __forceinline__ void forget_range() {
    min = E::infinity(false);
    max = E::infinity(true);
  }
  __device__ __forceinline__ void add(Real d, int c) {
    if constexpr (kSettles) {
      sum[c] += d;
      sum_sq[c] = multiply_add(d, d, sum_sq[c]);
    } else {
      total[c] += d;
      total_sq[c] = multiply_add(d, d, total_sq[c]);
    }
  }
  __device__ __forceinline__ void compare(Pack x, const Limits<E>& limits) {
    min = E::smaller_of(x, min);
    max = E::larger_of(x, max);
    if (kMode == kAll) {
      E::count_at_most(zeros, E::magnitude(x), limits.tol);
      E::count_at_most(low, x, limits.low);
    } else {
      E::count_equal(zeros, x, Pack(0));
    }
    if (kMode != kPlain) E::count_at_least(high, x, limits.high);
  }
};

// One element of a chunk that is not finite. Its thresholds have been counted, rightly unless it is
// a hidden NaN.
template <class E, int kMode>
__device__ void take_moments(typename E::Real x, double pivot, const Thresholds& thresholds,
                             Partial& part) {
  if (!E::hides_nan(x)) return add_moments(static_cast<double>(x), pivot, part);
  Partial counted = empty_partial();
  add_thresholds(static_cast<double>(x), thresholds, counted);
  ++part.nan;
  part.zeros -= counted.zeros;
  if (kMode == kAll) part.sat_low -= counted.sat_low;
  if (kMode != kPlain) part.sat_high -= counted.sat_high;
}

// Fields of lanes, channel by channel, and two of a field as one. Not lambdas: NVRTC up to 13.0
// takes those within templates for host functions.
template <class E>
struct SumOf {
  template <int kMode>
  static __device__ __forceinline__ typename E::Real of(const Lane<E, kMode>& l, int c) {
    return static_cast<typename E::Real>(l.total[c]);
  }
  static __device__ __forceinline__ double join(double a, double b) { return a + b; }
};
template <class E>
struct SumSqOf : SumOf<E> {
  template <int kMode>
  static __device__ __forceinline__ typename E::Real of(const Lane<E, kMode>& l, int c) {
    return static_cast<typename E::Real>(l.total_sq[c]);
  }
};
template <class E>
struct MinOf {
  typedef typename E::Real Real;
  template <int kMode>
  static __device__ __forceinline__ Real of(const Lane<E, kMode>& l, int c) {
    return E::real(l.min, c);
  }
  static __device__ __forceinline__ Real join(Real a, Real b) { return smaller(a, b); }
};
template <class E>
struct MaxOf {
  typedef typename E::Real Real;
  template <int kMode>
  static __device__ __forceinline__ Real of(const Lane<E, kMode>& l, int c) {
    return E::real(l.max, c);
  }
  static __device__ __forceinline__ Real join(Real a, Real b) { return larger(a, b); }
};

}  // namespace fmstats
