// Before and after the pass over the data: a channel's pivot, and the merge of its parts into the
// state. Formulas are those of state.h, parts.h and reread.h.
#pragma once

#include "../reread.h"
#include "chosen.cuh"
#include "lane.cuh"

namespace fmstats {

__device__ __forceinline__ int sample_count(const CudaArgs& a) {
  return static_cast<int>(a.positions < kSamples ? a.positions : kSamples);
}

// Sample number i of a channel whose pivot is not known yet; `seen` counts those that are numbers
// of the statistic.
template <class E, class Args>
__device__ __forceinline__ void take_sample(const Args& a, i64 channel, int i, Partial& part,
                                            int& seen) {
  const i64 position = sample_position(i, a.positions);
  if constexpr (Chosen<Args>::kSome) {
    if (!Chosen<Args>(a, channel).has(position)) return;
  }
  const i64 offset = offset_of(a, position);
  const typename E::Real x =
      number<E>(channel_of<E>(a.view, Chosen<Args>::in_tensor(a, channel))[offset]);
  if (E::hides_nan(x)) return;
  add_moments(static_cast<double>(x), 0.0, part);
  ++seen;
}

// What the pivot of a channel is chosen from: its state, or where that is empty its samples.
template <class E>
__device__ __forceinline__ typename E::Real pivot_from(const ChannelState& s) {
  return static_cast<typename E::Real>(pivot_of(s, sizeof(typename E::Real) == 4));
}
__device__ __forceinline__ ChannelState state_of_samples(const Partial& sample, int seen) {
  return to_state(sample, static_cast<i64>(seen), 0.0);
}

// The pivot of a channel, found by a warp. Every part of the channel finds the same: the state
// changes after the last ticket is taken.
template <class E, class Args>
__device__ __forceinline__ typename E::Real warp_pivot(const Args& a, i64 channel) {
  ChannelState s = load_state<i64>(a.state, a.row, channel);
  if (finite_count(s) == 0) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    Partial sample = empty_partial();
    int seen = 0;
#pragma unroll 1
    for (int i = lane; i < sample_count(a); i += kWarp) take_sample<E>(a, channel, i, sample, seen);
    const i64 seen_by_all = warp_word(kPartNan, seen);  // added up as any count
    s = state_of_samples(warp_sum<kPlain>(sample), static_cast<int>(seen_by_all));
  }
  return pivot_from<E>(s);
}

// The same, found by one thread.
template <class E, class Args>
__device__ __forceinline__ typename E::Real thread_pivot(const Args& a, i64 channel) {
  ChannelState s = load_state<i64>(a.state, a.row, channel);
  if (finite_count(s) == 0) {
    Partial sample = empty_partial();
    int seen = 0;
#pragma unroll 1
    for (int i = 0; i < sample_count(a); ++i) take_sample<E>(a, channel, i, sample, seen);
    s = state_of_samples(sample, seen);
  }
  return pivot_from<E>(s);
}

// The parts of sums alone, which are made anew.
typedef AskedPart<Partial> Sums;

// Make the sums of a part anew, in float64; the other fields stay.
template <class E, class Args, class Threads, class Part>
__device__ __forceinline__ Part sum_again(const Args& a, const Threads& group, i64 channel,
                                          const Again& again, Part part, i64* shared) {
  ExactSum sum = {}, sum_sq = {};
  Sums mine = empty_part<Sums>();
  const Chosen<Args> chosen(a, channel);
  const typename E::Storage* first = channel_of<E>(a.view, chosen.channel);
#pragma unroll 1
  for (i64 p = group.rank; p < a.positions; p += group.size) {
    if constexpr (Chosen<Args>::kSome) {
      if (!chosen.has(p)) continue;
    }
    const typename E::Real x = number<E>(first[offset_of(a, p)]);
    if (E::hides_nan(x)) continue;
    add_again(static_cast<double>(x), again, sum, sum_sq);
    if constexpr (kAsked.sums) {
      add_powers(static_cast<double>(x), again.pivot / again.unit, *powers_of(mine));
    }
  }
  mine.sum = sum.sum + sum.rest;
  mine.sum_sq = sum_sq.sum + sum_sq.rest;
  mine = group.template sum<kPlain>(mine, shared);
  part.sum = mine.sum;
  part.sum_sq = mine.sum_sq;
  if constexpr (kAsked.sums) part.powers = *powers_of(mine);
  return part;
}

// Merge what is asked for of a channel's part into the state, before its other words are.
template <class Part>
__device__ __forceinline__ void merge_asked(const CudaArgs& a, i64 channel,
                                            const ChannelState& before, const Part& part,
                                            double pivot) {
  if constexpr (kAsked.sums) {
    PowerSums powers = part.powers;
    if (part.min == part.max) {  // of a constant every moment is 0, however the pivot was rounded
      pivot = part.min;
      powers.first = powers.second = powers.third = powers.fourth = 0;
    }
    merge_requested(a.requested, a.row, channel, before, powers, pivot);
  }
}

// Merge a channel's part into the state. If it is too coarse, the unit to read the channel again
// in, and nothing is merged; else 0. When it was not finite is noted in either case.
template <class E, class Args>
__device__ __forceinline__ double fold_unless_coarse(const Args& a, i64 channel,
                                                     typename Chosen<Args>::Part part,
                                                     double& pivot) {
  if (non_finite_count(part) != 0) note_non_finite(a.state, a.row, channel, a.clock);
  if constexpr (kAsked.sums) {  // the same sums, in float64: kurtosis is as precise as these are
    part.sum = part.powers.first;
    part.sum_sq = part.powers.second;
  }
  const ChannelState before = load_state<i64>(a.state, a.row, channel);
  const ChannelState batch = to_state(part, Chosen<Args>::positions_of(a, part), pivot);
  if (too_coarse(part, before, batch, smallest_square(sizeof(typename E::Real) == 4))) {
    const Again again = read_again(part, batch);
    pivot = again.pivot;
    return again.unit;
  }
  merge_asked(a, channel, before, part, pivot);
  store_state(a.state, a.row, channel, merge(before, batch));
  return 0.0;
}

// Read a channel again and merge it, by all threads of the group.
template <class E, class Args, class Threads, class Part>
__device__ __forceinline__ void fold_again(const Args& a, const Threads& group, i64 channel,
                                           Part part, const Again& again, i64* shared) {
  part = sum_again<E>(a, group, channel, again, part, shared);
  if (group.rank != 0) return;
  const ChannelState before = load_state<i64>(a.state, a.row, channel);
  merge_asked(a, channel, before, part, again.pivot / again.unit);
  store_state(
      a.state, a.row, channel,
      merge(before, to_state(part, Chosen<Args>::positions_of(a, part), again.pivot, again.unit)));
}

// Merge a channel's part, which every thread of the group has, into the state.
template <class E, class Args, class Threads>
__device__ __forceinline__ void finish(const Args& a, const Threads& group, i64 channel,
                                       const typename Chosen<Args>::Part& part, double pivot,
                                       i64* shared) {
  Again again = {pivot, 0.0};
  if (group.rank == 0) again.unit = fold_unless_coarse<E>(a, channel, part, again.pivot);
  if (!group.first(again.unit, again.pivot, shared)) return;
  fold_again<E>(a, group, channel, part, again, shared);
}

}  // namespace fmstats
