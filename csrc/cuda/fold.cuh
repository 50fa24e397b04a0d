// Before and after the pass over the data: a channel's pivot, and the merge of its parts into the
// state. Formulas are statistic.h's.
#pragma once

#include "group.cuh"
#include "lane.cuh"

namespace fmstats {

// Where position p of a channel lies, from the channel's first element.
__device__ __forceinline__ i64 offset_of(const View& view, i64 p) {
  i64 offset = 0;
  for (int d = view.dim_count - 1; d > 0; --d) {
    const i64 before = p / view.size[d];
    offset += (p - before * view.size[d]) * view.stride[d];
    p = before;
  }
  return offset + p * view.stride[0];
}

template <class E>
__device__ __forceinline__ const typename E::Storage* channel_of(const View& view, i64 channel) {
  return static_cast<const typename E::Storage*>(view.data) + channel * view.channel_stride;
}

template <class E>
__device__ __forceinline__ void take_sample(const CudaArgs& a, i64 channel, int i, Partial& part) {
  const i64 p = offset_of(a.view, sample_position(i, a.positions));
  const typename E::Real x = E::one(channel_of<E>(a.view, channel)[p]);
  if (!HiddenNan<E>::is(x)) add_moments(static_cast<double>(x), 0.0, part);
}

__device__ __forceinline__ int sample_count(const CudaArgs& a) {
  return static_cast<int>(a.positions < kSamples ? a.positions : kSamples);
}

template <class E>
__device__ __forceinline__ double pivot_from(const ChannelState& s) {
  return pivot_of(s, sizeof(typename E::Real) == 4);
}

// Whether a sample of one holds its element: a hidden NaN is left out.
__device__ __forceinline__ bool was_seen(const Partial& one) {
  return one.nan + one.pos_inf + one.neg_inf > 0 || one.min <= one.max;
}

__device__ __forceinline__ ChannelState state_of_samples(const Partial& sample, int count) {
  return to_state(sample, static_cast<i64>(count), 0.0);
}

// The pivot of a channel, found by a warp. Every part of the channel finds the same: the state changes
// after the last ticket is taken.
template <class E>
__device__ double warp_pivot(const CudaArgs& a, i64 channel) {
  ChannelState s = load_state<i64>(a.state, a.row, channel);
  if (finite_count(s) == 0) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    Partial sample = empty_partial();
    if (lane < sample_count(a)) take_sample<E>(a, channel, lane, sample);
    s = state_of_samples(warp_sum<kPlain>(sample), __popc(__ballot_sync(kEveryLane, was_seen(sample))));
  }
  return pivot_from<E>(s);
}

// Whether the sums of a part are too coarse; then `mean` is the pivot to measure it again with.
template <class E>
__device__ bool is_coarse(const CudaArgs& a, const ChannelState& before, const Partial& part,
                          double pivot, double& mean) {
  const ChannelState batch = to_state(part, a.positions, pivot);
  mean = batch.mean;
  return too_coarse(part, before, batch, smallest_square(sizeof(typename E::Real) == 4));
}

__device__ __forceinline__ void fold_channel(const CudaArgs& a, i64 channel,
                                             const ChannelState& before, const Partial& part,
                                             double pivot) {
  store_state(a.state, a.row, channel, merge(before, to_state(part, a.positions, pivot)));
}

// Measure a channel again, every element in float64, and merge it.
template <class E, class Threads>
__device__ void fold_exactly(const CudaArgs& a, const Threads& group, i64 channel, double pivot,
                             i64* shared) {
  Partial part = empty_partial();
  const typename E::Storage* first = channel_of<E>(a.view, channel);
  for (i64 p = group.rank; p < a.positions; p += group.size) {
    take_all_exactly<E>(E::one(first[offset_of(a.view, p)]), pivot, a.thresholds, part);
  }
  const Partial all = group.template sum<kAll>(part, shared);
  if (group.rank == 0) {
    fold_channel(a, channel, load_state<i64>(a.state, a.row, channel), all, pivot);
  }
}

}  // namespace fmstats
