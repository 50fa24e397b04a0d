// What a thread accumulates of one channel.
//
// A chunk is a stretch of slots that adds at most kChunkElements to each sum in Real; then the sums
// go on in float64. A chunk whose sum of squares is finite holds no NaN, no infinity and no
// overflow; any other is read again exactly, its minimum and maximum dropped.
#pragma once

#include "args.h"
#include "elements.cuh"

namespace fmstats {

constexpr int kChunkElements = 128;
constexpr int kLoads = 4;  // in flight, a thread

// Which thresholds there are, as on the CPU: without bounds nothing is counted for them.
enum Mode { kPlain, kUpper, kAll };

template <class Real>
struct Limits {
  Real tol, low, high;
  __device__ explicit Limits(const Thresholds& t)
      : tol(static_cast<Real>(t.zero_tol)),
        low(static_cast<Real>(t.low)),
        high(static_cast<Real>(t.high)) {}
};

__device__ __forceinline__ float min_of(float a, float b) {
  return fminf(a, b);
}
__device__ __forceinline__ double min_of(double a, double b) {
  return fmin(a, b);
}
__device__ __forceinline__ float max_of(float a, float b) {
  return fmaxf(a, b);
}
__device__ __forceinline__ double max_of(double a, double b) {
  return fmax(a, b);
}
__device__ __forceinline__ float magnitude(float x) {
  return fabsf(x);
}
__device__ __forceinline__ double magnitude(double x) {
  return fabs(x);
}
__device__ __forceinline__ float multiply_add(float a, float b, float c) {
  return __fmaf_rn(a, b, c);
}
__device__ __forceinline__ double multiply_add(double a, double b, double c) {
  return __fma_rn(a, b, c);
}

template <class E, int kMode>
struct Lane {
  typedef typename E::Real Real;
  Real sum, sum_sq, min, max;
  int zeros, low, high;

  __device__ __forceinline__ void begin() {
    sum = sum_sq = 0;
    min = static_cast<Real>(infinity());
    max = -min;
    zeros = low = high = 0;
  }

  __device__ __forceinline__ void take(Real x, Real pivot, const Limits<Real>& limits) {
    const Real d = x - pivot;
    sum += d;
    sum_sq = multiply_add(d, d, sum_sq);
    min = min_of(x, min);
    max = max_of(x, max);
    zeros += kMode == kAll ? magnitude(x) <= limits.tol : x == 0;
    if (kMode == kAll) low += x <= limits.low;
    if (kMode != kPlain) high += x >= limits.high;
  }

  __device__ __forceinline__ bool is_finite() const {
    return sum_sq < static_cast<Real>(infinity()) && !HiddenNan<E>::is(max) &&
           !HiddenNan<E>::is(min);
  }

  // Add the chunk to what the thread has.
  __device__ __forceinline__ void flush(Partial& part) const {
    part.sum += static_cast<double>(sum);
    part.sum_sq += static_cast<double>(sum_sq);
    part.min = smaller(part.min, static_cast<double>(min));
    part.max = larger(part.max, static_cast<double>(max));
  }
  __device__ __forceinline__ void flush_counts(Partial& part) const {
    part.zeros += zeros;
    if (kMode == kAll) part.sat_low += low;
    if (kMode != kPlain) part.sat_high += high;
  }
};

// One element of a chunk that is not finite. Its thresholds have been counted, rightly unless it is
// a hidden NaN.
template <class E>
__device__ void take_exactly(typename E::Real x, double pivot, const Limits<typename E::Real>& limits,
                             Partial& part) {
  if (HiddenNan<E>::is(x)) {
    ++part.nan;
    part.zeros -= magnitude(x) <= limits.tol;
    part.sat_low -= x <= limits.low;
    part.sat_high -= x >= limits.high;
  } else {
    add_moments(static_cast<double>(x), pivot, part);
  }
}

// The same of an element whose thresholds have not been counted.
template <class E>
__device__ void take_all_exactly(typename E::Real x, double pivot, const Thresholds& thresholds,
                                 Partial& part) {
  if (HiddenNan<E>::is(x)) {
    ++part.nan;
  } else {
    add_moments(static_cast<double>(x), pivot, part);
    add_thresholds(static_cast<double>(x), thresholds, part);
  }
}

}  // namespace fmstats
