// A vector of channels whose few positions were added up: its state after them, or channel by
// channel where elements are not finite or sums are too coarse.
#pragma once

#include "fold.h"
#include "lanes.h"

namespace fmstats {
namespace {

// Most positions of few.h: above, tiles of columns.h are faster, since they keep to few pages at a
// time.
constexpr i64 kFewPositions = 128;

// How far the mean of a part may be from the pivot, in its deviations: farther off, the channel is
// read again, by the rule of ../reread.h. With u = 2^-53 and no more roundings of a term than there
// are positions, m2 is then off by at most (1 + kFar^2) (3 kFewPositions + 2) u of what it gains:
// by 0.7e-6, and 0.5e-12 of float64 data. (tests/test_few_positions.py works this out.)
constexpr double kFar = 4000;
constexpr double kFarFloat64 = 3;

template <class E>
constexpr double coarse_few() {
  constexpr double far = sizeof(typename E::Storage) == sizeof(double) ? kFarFloat64 : kFar;
  return 1 + far * far;
}

// Whether the sums tell of finite elements alone, and of no overflow; false for NaN too.
template <class Int, class Real>
FMSTATS_MEMBER auto all_finite(const PartialOf<Int, Real>& part) {
  const Real most = Real{} + infinity();
#define FMSTATS_AND(name, ...) &(part.name < most) & (-part.name < most)
  return (part.sum_sq < most) FMSTATS_SUMS(FMSTATS_AND);
#undef FMSTATS_AND
}

// Merge the part of each of a vector of channels, some of which hold elements that are not finite,
// or have sums that are too coarse.
template <class E>
__attribute__((noinline, cold)) void settle_each(const Job& job, i64 c, i64 positions, f64v pivot,
                                                 const PartialOf<i64v, f64v>& parts) {
  i64 words[kPartFields * kLanes<double>];
  store_part(words, kLanes<double>, 0, parts);
  for (int l = 0; l < kLanes<double>; ++l) {
    Partial part = load_part<i64>(words, kLanes<double>, l);
    if (!all_finite(part)) {
      Partial exact = empty_partial();
      scan_moments_exactly<E>(job.view, c + l, 0, positions, pivot[l], exact);
#define FMSTATS_COUNT(name, ...) exact.name = part.name;
      FMSTATS_COMPARISONS(FMSTATS_COUNT)
#undef FMSTATS_COUNT
      part = exact;
    }
    settle(job, c + l, positions, pivot[l], part, 0.0, coarse_few<E>());
  }
}

// Part number kPart of what the lanes have met.
template <int kPart, class Real>
FMSTATS_MEMBER PartialOf<i64v, f64v> part_of(const Lanes<Real>& lanes, const Sums<double>& sums) {
  PartialOf<i64v, f64v> part;
#define FMSTATS_NONE(name, ...) part.name = i64v{};
#define FMSTATS_LANES(name, ...) part.name = wide<kPart>(lanes.name);
#define FMSTATS_SUM(name, ...) part.name = sums.name;
  FMSTATS_NON_FINITE(FMSTATS_NONE)
  FMSTATS_COMPARISONS(FMSTATS_LANES)
  FMSTATS_PART_SUMS(FMSTATS_SUM)
  FMSTATS_EXTREMES(FMSTATS_LANES)
#undef FMSTATS_NONE
#undef FMSTATS_LANES
#undef FMSTATS_SUM
  return part;
}

// What the state of a vector of channels becomes, where the part is of finite elements and precise.
struct Settled {
  ChannelStateOf<i64v, f64v> after;
  i64v doubtful;
};

FMSTATS_MEMBER Settled settle_vector(const Job& job, i64 c, i64 positions, f64v pivot,
                                     const PartialOf<i64v, f64v>& part, double smallest,
                                     double coarse) {
  const auto before = load_state<i64v>(job.state, job.row, c);
  const auto batch = to_state(part, splat<i64v>(positions), pivot);
  return {merge(before, batch),
          ~(i64v)all_finite(part) | (i64v)too_coarse(part, before, batch, smallest, coarse)};
}

// Store the words that finite elements can have changed: a store costs as much as a sum.
template <Mode kMode>
FMSTATS_MEMBER void store_changed(const Job& job, i64 c, const ChannelStateOf<i64v, f64v>& after) {
  typedef Numbers<i64v> N;
  i64* const words = job.state + c;
  double* const reals = reinterpret_cast<double*>(words);
#define FMSTATS_STORE(name, Name, ...) N::store(words + k##Name * job.row, after.name);
#define FMSTATS_COUNT(name, Name, Mode) \
  if constexpr (kMode >= k##Mode) FMSTATS_STORE(name, Name)
#define FMSTATS_REAL(name, Name, ...) N::store(reals + k##Name * job.row, after.name);
  FMSTATS_TOTAL(FMSTATS_STORE)
  FMSTATS_COMPARISONS(FMSTATS_COUNT)
  FMSTATS_REALS(FMSTATS_REAL)
#undef FMSTATS_STORE
#undef FMSTATS_COUNT
#undef FMSTATS_REAL
}

}  // namespace
}  // namespace fmstats
