// Few positions, contiguous channels: a decoding step, an MLP, the last layers of a network. A
// vector of channels at a time goes from its elements to its new state.
//
// Here what is done once a channel decides, so there are no parts in memory, no samples for a first
// pivot and no second walk over the channels. Sums are made about the state's mean, which has to be
// loaded anyway: in float64 of the fewest positions, or in float32 as in columns.h, and once more
// in float64 where these are too coarse. No float32 rounding enters float64 sums, so that 0 serves
// a new channel as pivot, and next to nothing is read a third time, element by element.
#pragma once

#include "few_settle.h"

namespace fmstats {
namespace {

// Most positions whose sums are made in float64 at once: above, those in float32 are faster.
constexpr i64 kExactPositions = 16;

// The offsets of the positions from a channel's first element.
struct Places {
  __attribute__((noinline)) explicit Places(const MaskedView& view) : count(view.counted) {
    const i64 step = view.stride[view.dim_count - 1];
    Runs runs(view, 0);
    for (i64 filled = 0; filled < count;) {
      const i64 more = runs.left();
      for (i64 i = 0; i < more; ++i) offset[filled + i] = runs.offset() + i * step;
      runs.advance(more);
      filled += more;
    }
  }

  const i64 count;
  i64 offset[kFewPositions];
};

// Take all positions, with sums in float64: of the lower and of the upper lanes.
template <class E, Mode kMode, class Real>
FMSTATS_MEMBER void walk_exactly(const typename E::Storage* first, const Places& places,
                                 const Limits<Real>& limits, const f64v (&pivot)[2],
                                 Lanes<Real>& lanes, Sums<double>& low, Sums<double>& high) {
  for (i64 p = 0; p < places.count; ++p) {
    const auto* at = first + places.offset[p];
    const auto x = E::vector(at);
    compare<kMode>(lanes, limits, x);
    add<false>(low, wide_from<0, E>(at, x) - pivot[0]);
    if constexpr (kLanes<Real> > kLanes<double>) {
      add<false>(high, wide_from<1, E>(at, x) - pivot[1]);
    }
  }
}

// The same with sums in float32, of kChains chains of kChain positions before they go on in
// float64.
template <class E, Mode kMode>
FMSTATS_MEMBER void walk_quickly(const typename E::Storage* first, const Places& places,
                                 const Limits<float>& limits, f32v pivot, Lanes<float>& lanes,
                                 Sums<double>& low, Sums<double>& high) {
  const i64 *offset = places.offset, *const end = offset + places.count;
  while (offset < end) {
    Sums<float> joined;
    for (int i = 0; i < kChains && offset < end; ++i) {
      Sums<float> chain;
      take<kMode, true>(lanes, chain, limits, pivot, E::vector(first + *offset++));
      if (offset + kChain - 1 <= end) {
        for (int k = 1; k < kChain; ++k) {
          take<kMode>(lanes, chain, limits, pivot, E::vector(first + *offset++));
        }
      } else {
        while (offset < end) {
          take<kMode>(lanes, chain, limits, pivot, E::vector(first + *offset++));
        }
      }
      joined.join(chain);
    }
#define FMSTATS_SUM(name, ...)      \
  low.name += wide<0>(joined.name); \
  high.name += wide<1>(joined.name);
    FMSTATS_PART_SUMS(FMSTATS_SUM)
#undef FMSTATS_SUM
  }
}

// Measure channels [c0, c1), which are whole vectors; kQuick: by sums in float32 at first.
template <class E, Mode kMode, bool kQuick>
__attribute__((noinline)) void measure_vectors(const Job& job, const Places& places, i64 c0,
                                               i64 c1) {
  typedef typename E::Real Real;
  typedef Numbers<i64v> N;
  constexpr int kWidth = kLanes<double>;
  constexpr int kHigh = kLanes<Real> > kWidth ? 1 : 0;  // the number of the upper part
  const double smallest = kQuick ? smallest_square(true) : 0.0;
  const double coarse = kQuick ? kCoarse : coarse_few<E>();
  const Limits<Real> limits(job.thresholds);
  const i64 positions = places.count;
  for (i64 c = c0; c < c1; c += kLanes<Real>) {
    const i64 upper = c + kHigh * kWidth;
    const auto* first = static_cast<const typename E::Storage*>(job.view.data) + c;
    const double* means = reinterpret_cast<const double*>(job.state) + kMean * job.row;
    f64v pivot[2] = {N::load(means + c), N::load(means + upper)};
    Lanes<Real> lanes;
    Sums<double> low, high;
    if constexpr (kQuick) {
      const f32v rounded = narrow(pivot[0], pivot[1]);
      widen(rounded, pivot[0], pivot[1]);
      walk_quickly<E, kMode>(first, places, limits, rounded, lanes, low, high);
    } else {
      walk_exactly<E, kMode>(first, places, limits, pivot, lanes, low, high);
    }
    const auto part = part_of<0>(lanes, low), part_2 = part_of<kHigh>(lanes, high);
    const auto a = settle_vector(job, c, positions, pivot[0], part, smallest, coarse);
    const auto b =
        kHigh ? settle_vector(job, upper, positions, pivot[1], part_2, smallest, coarse) : a;
    if (!any(a.doubtful | b.doubtful)) {
      store_changed<kMode>(job, c, a.after);
      if constexpr (kHigh) store_changed<kMode>(job, upper, b.after);
    } else if constexpr (kQuick) {
      measure_vectors<E, kMode, false>(job, places, c, c + kLanes<Real>);
    } else {
      settle_each<E>(job, c, positions, pivot[0], part);
      if constexpr (kHigh) settle_each<E>(job, upper, positions, pivot[1], part_2);
    }
  }
}

typedef void (*Measure)(const Job& job, const Places& places, i64 c0, i64 c1);

// Measure channels [c0, c1), which are whole vectors.
template <class E, Mode kMode>
void measure_whole(const Job& job, const Places& places, i64 c0, i64 c1) {
  if constexpr (sizeof(typename E::Real) == sizeof(float)) {
    if (places.count > kExactPositions) {
      return measure_vectors<E, kMode, true>(job, places, c0, c1);
    }
  }
  measure_vectors<E, kMode, false>(job, places, c0, c1);
}

// Measure channels [c0, c1), fewer than a vector: as a vector of copies, of their elements and of
// their states, the last one repeated.
template <class E>
void measure_ragged(Measure measure, const Job& job, const Places& places, i64 c0, i64 c1) {
  typedef typename E::Storage Storage;
  constexpr int kWidth = kLanes<typename E::Real>;
  const int count = static_cast<int>(c1 - c0);
  const auto* first = static_cast<const Storage*>(job.view.data) + c0;
  Storage elements[kFewPositions * kWidth];
  for (i64 p = 0; p < places.count; ++p) {
    const Storage* from = first + places.offset[p];
    for (int l = 0; l < kWidth; ++l) elements[p * kWidth + l] = from[smaller(l, count - 1)];
  }
  i64 state[kFields * kWidth];
  for (int f = 0; f < kFields; ++f) {
    const i64* from = job.state + f * job.row + c0;
    for (int l = 0; l < kWidth; ++l) state[f * kWidth + l] = from[smaller(l, count - 1)];
  }
  Job beside = job;
  beside.view = whole({elements, job.view.dtype, kWidth, 1, 1, {places.count}, {kWidth}});
  beside.state = state;
  beside.row = kWidth;
  measure(beside, Places(beside.view), 0, kWidth);
  for (int f = 0; f < kFields; ++f) {
    i64* to = job.state + f * job.row + c0;
    for (int l = 0; l < count; ++l) to[l] = state[f * kWidth + l];
  }
}

template <class E>
void measure_few(const Job& job, i64 c0, i64 c1) {
  const Places places(job.view);
  const i64 whole = c1 - (c1 - c0) % kLanes<typename E::Real>;
  const Measure measure = choose_by_mode<kFewVariantsOf<E>>(
      job.mode, [](auto mode) -> Measure { return &measure_whole<E, mode.value>; });
  measure(job, places, c0, whole);
  if (whole < c1) measure_ragged<E>(measure, job, places, whole, c1);
}

}  // namespace
}  // namespace fmstats
