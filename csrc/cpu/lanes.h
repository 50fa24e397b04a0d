// What each lane of a vector accumulates, and how it takes an element; rows and columns alike.
//
// d = x - pivot, sum += d, sum_sq += d * d: in float32 for a few vectors, so that no term is
// rounded more than kRoundings times (../parts.h) before the sums go on in float64. A finite
// sum_sq proves that a block held no NaN, no infinity and no overflow. Minimum and maximum ignore
// NaN by operand order; threshold counts are right for every value at once.
#pragma once

#include "../parts.h"
#include "chosen.h"
#include "widths.h"

namespace fmstats {
namespace {

constexpr int kChain = 4;   // vectors added one after the other
constexpr int kChains = 4;  // chains joined one after the other, or twice as many in pairs of pairs
static_assert(kChain + kChains - 1 <= kRoundings, "see parts.h");
constexpr int kGroup = 2 * kChains * kChain;
static_assert(kChain + 3 <= kRoundings && kGroup == kChain << 3, "see parts.h");

// The thresholds as vectors, which elements are compared with.
template <class Real>
struct Limits {
  typedef typename Vec<Real>::type V;
  explicit Limits(const Thresholds& t)
      : tol(splat<V>(static_cast<Real>(t.zero_tol))),
        low(splat<V>(static_cast<Real>(t.low))),
        high(splat<V>(static_cast<Real>(t.high))) {}
  const V tol, low, high;
};

// All three are copied field by field: GCC keeps a struct that is copied whole in memory, not in
// registers.

// Sums over a few vectors.
template <class Real>
struct Sums {
  typedef typename Vec<Real>::type V;

  Sums() {}
  Sums(const Sums& o) { *this = o; }
  Sums& operator=(const Sums& o) {
#define FMSTATS_COPY(name, ...) name = o.name;
    FMSTATS_PART_SUMS(FMSTATS_COPY)
    return *this;
  }
  void join(const Sums& more) {
#define FMSTATS_SUM(name, ...) name += more.name;
    FMSTATS_PART_SUMS(FMSTATS_SUM)
#undef FMSTATS_SUM
  }

#define FMSTATS_MEMBER_SUM(name, ...) V name{};
  FMSTATS_PART_SUMS(FMSTATS_MEMBER_SUM)
#undef FMSTATS_MEMBER_SUM
};

// The range of what was met.
template <class Real>
struct Extremes {
  typedef typename Vec<Real>::type V;

  Extremes() {}
  Extremes(const Extremes& o) { *this = o; }
  Extremes& operator=(const Extremes& o) {
    FMSTATS_EXTREMES(FMSTATS_COPY)
    return *this;
  }

#define FMSTATS_EXTREME(name, Name, join, side) \
  V name = splat<V>(static_cast<Real>(side infinity()));
  FMSTATS_EXTREMES(FMSTATS_EXTREME)
#undef FMSTATS_EXTREME
};

// The range, and what comparisons have counted.
template <class Real>
struct Lanes : Extremes<Real> {
  typedef typename Vec<Real>::type V;
  typedef typename Vec<Real>::mask M;

  Lanes() {}
  Lanes(const Lanes& o) : Extremes<Real>(o) { copy_counts(o); }
  Lanes& operator=(const Lanes& o) {
    Extremes<Real>::operator=(o);
    copy_counts(o);
    return *this;
  }

#define FMSTATS_COUNT(name, ...) M name{};
  FMSTATS_COMPARISONS(FMSTATS_COUNT)
#undef FMSTATS_COUNT

 private:
  void copy_counts(const Lanes& o) { FMSTATS_COMPARISONS(FMSTATS_COPY) }
#undef FMSTATS_COPY
};

// A mode that a compiler knows.
template <Mode kMode>
struct ModeConstant {
  static constexpr Mode value = kMode;
};

// Choose the kernel of a mode, of as many variants as there are: 3, 2 (without kUpper) or 1. All
// comparisons are right for every layer, so kernels that are rarely run need no other.
template <int kVariants, class Choose>
inline auto choose_by_mode(Mode mode, Choose choose) {
  if constexpr (kVariants >= 2) {
    if (mode == kPlain) return choose(ModeConstant<kPlain>{});
  }
  if constexpr (kVariants >= 3) {
    if (mode == kUpper) return choose(ModeConstant<kUpper>{});
  }
  return choose(ModeConstant<kAll>{});
}

// Range and counts of x. A NaN leaves all of them as they are.
template <Mode kMode, class Real, class V>
inline void compare(Lanes<Real>& lanes, const Limits<Real>& limits, V x) {
  lanes.min = keep_smaller(x, lanes.min);
  lanes.max = keep_larger(x, lanes.max);
  count(lanes.zeros, kMode == kAll ? absolute(x) <= limits.tol : x == V{});
  if constexpr (kMode >= kAll) count(lanes.sat_low, x <= limits.low);
  if constexpr (kMode >= kUpper) count(lanes.sat_high, x >= limits.high);
}

// The first term of a sum, or one more.
template <bool kFirst, class V>
inline void put(V& sum, V term) {
  sum = kFirst ? term : sum + term;
}

// What d, the difference of an element from the pivot, adds to the sums; kFirst: to empty ones.
template <bool kFirst, class Real, class V>
inline void add(Sums<Real>& sums, V d) {
  put<kFirst>(sums.sum, d);
  sums.sum_sq = kFirst ? d * d : fma(d, d, sums.sum_sq);
}

// Take x, in all lanes.
template <Mode kMode, bool kFirst = false, class Real, class V>
inline void take(Lanes<Real>& lanes, Sums<Real>& sums, const Limits<Real>& limits, V pivot, V x,
                 AllLanes = {}) {
  add<kFirst>(sums, x - pivot);
  compare<kMode>(lanes, limits, x);
}

// Take x in the lanes that are chosen. The others may hold anything.
template <Mode kMode, bool kFirst = false, class Real, class V, class Chosen>
inline void take(Lanes<Real>& lanes, Sums<Real>& sums, const Limits<Real>& limits, V pivot, V x,
                 Chosen chosen) {
  add<kFirst>(sums, zero_elsewhere(x - pivot, chosen));
  compare<kMode>(lanes, limits, nan_elsewhere(x, chosen));
}

// Sums that go on in float64, a lane of each vector apart.
template <class Real>
struct Totals {
#define FMSTATS_SUM(name, ...) double name[kLanes<Real>] = {};
  FMSTATS_PART_SUMS(FMSTATS_SUM)
#undef FMSTATS_SUM

  void add(const Sums<Real>& sums) {
#define FMSTATS_SUM(name, ...) add_lanes(sums.name, name);
    FMSTATS_PART_SUMS(FMSTATS_SUM)
#undef FMSTATS_SUM
  }

  void add(const Totals& more) {
#define FMSTATS_SUM(name, ...) \
  for (int i = 0; i < kLanes<Real>; ++i) name[i] += more.name[i];
    FMSTATS_PART_SUMS(FMSTATS_SUM)
#undef FMSTATS_SUM
  }

  // Whether some lane has met a NaN, an infinity or an overflow.
  bool any_non_finite() const {
    bool found = false;
    for (int i = 0; i < kLanes<Real>; i += kLanes<double>) {
#define FMSTATS_SUM(name, ...) found |= fmstats::any_non_finite(load_unaligned<f64v>(name + i));
      FMSTATS_SUM(sum_sq)
      FMSTATS_SUMS(FMSTATS_SUM)
#undef FMSTATS_SUM
    }
    return found;
  }
};

}  // namespace
}  // namespace fmstats
