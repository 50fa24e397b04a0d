// What each lane of a vector accumulates, and how it takes an element; rows and columns alike.
//
// d = x - pivot, sum += d, sum_sq += d * d: at most kBlockSteps + 1 terms in float32, then float64.
// A finite sum_sq proves that a block held no NaN, no infinity and no overflow. Minimum and maximum
// ignore NaN by operand order; threshold counts are right for every value at once.
#pragma once

#include "vector.h"

namespace fmstats {
namespace {

constexpr int kBlockSteps = 32;  // float32 additions a lane: error <= 32 * 2^-25 of the sum

// Which thresholds there are: each compare and count that is left out saves a tenth of the loop.
enum Mode {
  kPlain,  // zero_tol = 0, no bounds
  kUpper,  // zero_tol = 0, an upper bound: ReLU6
  kAll,
};

inline Mode mode_of(const Thresholds& t) {
  if (t.zero_tol > 0 || t.low == t.low) return kAll;
  return t.high == t.high ? kUpper : kPlain;
}

template <class Real>
struct Limits {
  typedef typename Vec<Real>::type V;
  explicit Limits(const Thresholds& t)
      : tol(splat<V>(static_cast<Real>(t.zero_tol))),
        low(splat<V>(static_cast<Real>(t.low))),
        high(splat<V>(static_cast<Real>(t.high))) {}
  const V tol, low, high;
};

// Copied field by field: GCC keeps a struct that is copied whole in memory, not in registers.
template <class Real>
struct Lanes {
  typedef typename Vec<Real>::type V;
  typedef typename Vec<Real>::mask M;

  Lanes() : min(splat<V>(static_cast<Real>(infinity()))), max(-min) {}
  Lanes(const Lanes& o)
      : sum(o.sum),
        sum_sq(o.sum_sq),
        min(o.min),
        max(o.max),
        zeros(o.zeros),
        low(o.low),
        high(o.high) {}
  Lanes& operator=(const Lanes& o) {
    sum = o.sum;
    sum_sq = o.sum_sq;
    min = o.min;
    max = o.max;
    zeros = o.zeros;
    low = o.low;
    high = o.high;
    return *this;
  }

  V sum{}, sum_sq{}, min, max;
  M zeros{}, low{}, high{};
};

// Take x in the lanes where `fresh` is true. The other lanes must repeat an element that the block
// holds anyway: they enter minimum and maximum.
template <Mode kMode, class Real, class V, class M>
inline void take_some(Lanes<Real>& lanes, const Limits<Real>& limits, V pivot, V x, M fresh) {
  const V d = (V)((M)(x - pivot) & fresh);
  lanes.sum += d;
  lanes.sum_sq = fma(d, d, lanes.sum_sq);
  lanes.min = keep_min(x, lanes.min);
  lanes.max = keep_max(x, lanes.max);
  lanes.zeros -= (kMode == kAll ? absolute(x) <= limits.tol : x == V{}) & fresh;
  if constexpr (kMode == kAll) lanes.low -= (x <= limits.low) & fresh;
  if constexpr (kMode != kPlain) lanes.high -= (x >= limits.high) & fresh;
}

template <Mode kMode, class Real, class V>
inline void take(Lanes<Real>& lanes, const Limits<Real>& limits, V pivot, V x) {
  take_some<kMode>(lanes, limits, pivot, x, ~typename Vec<Real>::mask{});
}

}  // namespace
}  // namespace fmstats
