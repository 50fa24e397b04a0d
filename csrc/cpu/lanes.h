// What each lane of a vector accumulates, and how it takes an element; rows and columns alike.
//
// d = x - pivot, sum += d, sum_sq += d * d: in float32 for a few vectors, so that no term is
// rounded more than kRoundings times (../statistic.h) before the sums go on in float64. A finite
// sum_sq proves that a block held no NaN, no infinity and no overflow. Minimum and maximum ignore
// NaN by operand order; threshold counts are right for every value at once.
#pragma once

#include "vector.h"

namespace fmstats {
namespace {

constexpr int kChain = 4;   // vectors added one after the other
constexpr int kChains = 4;  // chains joined one after the other, or twice as many in pairs of pairs
static_assert(kChain + kChains - 1 <= kRoundings, "see statistic.h");
constexpr int kGroup = 2 * kChains * kChain;
static_assert(kChain + 3 <= kRoundings && kGroup == kChain << 3, "see statistic.h");

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

// Both are copied field by field: GCC keeps a struct that is copied whole in memory, not in
// registers.

// Sums about the pivot, over a few vectors.
template <class Real>
struct Sums {
  typedef typename Vec<Real>::type V;

  Sums() {}
  Sums(V of_d, V of_squares) : sum(of_d), sum_sq(of_squares) {}
  Sums(const Sums& o) : sum(o.sum), sum_sq(o.sum_sq) {}
  Sums& operator=(const Sums& o) {
    sum = o.sum;
    sum_sq = o.sum_sq;
    return *this;
  }
  void join(const Sums& more) {
    sum += more.sum;
    sum_sq += more.sum_sq;
  }

  V sum{}, sum_sq{};
};

template <class Real>
struct Lanes {
  typedef typename Vec<Real>::type V;
  typedef typename Vec<Real>::mask M;

  Lanes() : min(splat<V>(static_cast<Real>(infinity()))), max(-min) {}
  Lanes(const Lanes& o) : min(o.min), max(o.max), zeros(o.zeros), low(o.low), high(o.high) {}
  Lanes& operator=(const Lanes& o) {
    min = o.min;
    max = o.max;
    zeros = o.zeros;
    low = o.low;
    high = o.high;
    return *this;
  }

  V min, max;
  M zeros{}, low{}, high{};
};

// Range and counts of x, in the lanes where `fresh` is true. The other lanes must repeat an element
// that the block holds anyway: they enter minimum and maximum.
template <Mode kMode, class Real, class V, class M>
inline void compare(Lanes<Real>& lanes, const Limits<Real>& limits, V x, M fresh) {
  lanes.min = keep_min(x, lanes.min);
  lanes.max = keep_max(x, lanes.max);
  lanes.zeros -= (kMode == kAll ? absolute(x) <= limits.tol : x == V{}) & fresh;
  if constexpr (kMode == kAll) lanes.low -= (x <= limits.low) & fresh;
  if constexpr (kMode != kPlain) lanes.high -= (x >= limits.high) & fresh;
}

// Take x in the lanes where `fresh` is true, as `compare`.
template <Mode kMode, class Real, class V, class M>
inline void take_some(Lanes<Real>& lanes, Sums<Real>& sums, const Limits<Real>& limits, V pivot,
                      V x, M fresh) {
  const V d = (V)((M)(x - pivot) & fresh);
  sums.sum += d;
  sums.sum_sq = fma(d, d, sums.sum_sq);
  compare<kMode>(lanes, limits, x, fresh);
}

// The sums of x alone.
template <Mode kMode, class Real, class V>
inline Sums<Real> take_first(Lanes<Real>& lanes, const Limits<Real>& limits, V pivot, V x) {
  const V d = x - pivot;
  compare<kMode>(lanes, limits, x, ~typename Vec<Real>::mask{});
  return Sums<Real>(d, d * d);
}

template <Mode kMode, class Real, class V>
inline void take(Lanes<Real>& lanes, Sums<Real>& sums, const Limits<Real>& limits, V pivot, V x) {
  take_some<kMode>(lanes, sums, limits, pivot, x, ~typename Vec<Real>::mask{});
}

// Sums that go on in float64, a lane of each vector apart.
template <class Real>
struct Totals {
  double sum[kLanes<Real>] = {}, sum_sq[kLanes<Real>] = {};

  void add(const Sums<Real>& sums) {
    add_lanes(sums.sum, sum);
    add_lanes(sums.sum_sq, sum_sq);
  }

  // Whether some lane has met a NaN, an infinity or an overflow.
  bool any_non_finite() const {
    bool found = false;
    for (int i = 0; i < kLanes<Real>; i += kLanes<double>) {
      found |= fmstats::any_non_finite(load_unaligned<f64v>(sum_sq + i));
    }
    return found;
  }
};

}  // namespace
}  // namespace fmstats
