// One channel to a warp or a block: NCHW, where runs of positions are contiguous, and any strides at
// all, an element at a time.
#pragma once

#include "fold.cuh"

namespace fmstats {

// The slots of contiguous runs: 16 bytes each, cut at addresses that 16 divides, so that the first
// and the last of a run may reach beyond it.
template <class E>
class RunSlots {
  typedef typename E::Storage Storage;
  typedef typename E::Real Real;

 public:
  static constexpr int kVector = kVectorOf<E>;

  __device__ RunSlots(const CudaArgs& a, i64 channel, i64 slot, int step)
      : first_(channel_of<E>(a.view, channel)),
        run_(a.view.size[a.view.dim_count - 1]),
        run_stride_(a.view.dim_count > 1 ? a.view.stride[0] : 0),
        slots_(a.run_slots),
        row_(slot / slots_),
        slot_(slot - row_ * slots_),
        row_step_(step / slots_),
        slot_step_(step - row_step_ * slots_),
        aligned_(a.aligned != 0) {}

  __device__ __forceinline__ void advance() {
    row_ += row_step_;
    slot_ += slot_step_;
    if (slot_ >= slots_) {
      slot_ -= slots_;
      ++row_;
    }
  }

  __device__ __forceinline__ bool aligned() const { return aligned_; }

  __device__ __forceinline__ Words<4> load() const {  // of an aligned run
    return *reinterpret_cast<const Words<4>*>(first_ + row_ * run_stride_ + slot_ * kVector);
  }

  // Hand the slot to `whole(Words<4>)`, or what it has of the run to `one(Real)` element by element.
  template <class Whole, class One>
  __device__ __forceinline__ void visit(Whole whole, One one) const {
    const Storage* run = first_ + row_ * run_stride_;
    const i64 from = start(run);
    if (from >= 0 && from + kVector <= run_) {
      whole(*reinterpret_cast<const Words<4>*>(run + from));
    } else {
      each(one);
    }
  }
  template <class One>
  __device__ __forceinline__ void each(One one) const {
    const Storage* run = first_ + row_ * run_stride_;
    const i64 from = start(run);
    const i64 end = from + kVector < run_ ? from + kVector : run_;
#pragma unroll 1
    for (i64 i = from < 0 ? 0 : from; i < end; ++i) one(E::one(run[i]));
  }

 private:
  // Of the slot, from the run's first element; negative where it begins before the run.
  __device__ __forceinline__ i64 start(const Storage* run) const {
    const unsigned long long address = reinterpret_cast<unsigned long long>(run);
    return slot_ * kVector - static_cast<int>(address % 16 / sizeof(Storage));
  }

  const Storage* const first_;
  const i64 run_, run_stride_, slots_;
  i64 row_, slot_;
  const i64 row_step_, slot_step_;
  const bool aligned_;
};

// The slots of any view: a position each.
template <class E>
class StridedSlots {
 public:
  static constexpr int kVector = 1;

  __device__ StridedSlots(const CudaArgs& a, i64 channel, i64 slot, int step)
      : view_(a.view), first_(channel_of<E>(a.view, channel)), position_(slot), step_(step) {}

  __device__ __forceinline__ void advance() { position_ += step_; }
  __device__ __forceinline__ bool aligned() const { return false; }
  __device__ __forceinline__ Words<4> load() const { return {}; }
  template <class Whole, class One>
  __device__ __forceinline__ void visit(Whole, One one) const {
    each(one);
  }
  template <class One>
  __device__ __forceinline__ void each(One one) const {
    one(E::one(first_[offset_of(view_, position_)]));
  }

 private:
  const View& view_;
  const typename E::Storage* const first_;
  i64 position_;
  const int step_;
};



// What this thread has of slots [begin, end) of a channel.
template <class E, int kMode, class Slots, class Threads>
__device__ Partial measure_slots(const CudaArgs& a, const Threads& group, i64 channel, i64 begin,
                                 i64 end, double exact_pivot) {
  typedef typename E::Real Real;
  constexpr int kChunk = kChunkElements / Slots::kVector;
  const Limits<Real> limits(a.thresholds);
  const Real pivot = static_cast<Real>(exact_pivot);
  Partial part = empty_partial();
  begin += group.rank;
  Slots slots(a, channel, begin, group.size);
  i64 left = begin < end ? (end - begin + group.size - 1) / group.size : 0;
  while (left > 0) {
    const Slots start = slots;
    const int n = static_cast<int>(left < kChunk ? left : kChunk);
    Lane<E, kMode> lane;
    lane.begin();
    const auto take = [&](Real x) { lane.take(x, pivot, limits); };
    const auto take_vector = [&](const Words<4>& v) {
      Real x[kVectorOf<E>];
      E::read(v, x);
#pragma unroll
      for (int i = 0; i < kVectorOf<E>; ++i) take(x[i]);
    };
    int i = 0;
    if (slots.aligned()) {
      for (; i + kLoads <= n; i += kLoads) {
        Words<4> v[kLoads];
#pragma unroll
        for (int u = 0; u < kLoads; ++u) {
          v[u] = slots.load();
          slots.advance();
        }
#pragma unroll
        for (int u = 0; u < kLoads; ++u) take_vector(v[u]);
      }
    }
#pragma unroll 1
    for (; i < n; ++i) {
      slots.visit(take_vector, take);
      slots.advance();
    }
    lane.flush_counts(part);
    if (lane.is_finite()) {
      lane.flush(part);
    } else {
      Slots again = start;
#pragma unroll 1
      for (int k = 0; k < n; ++k) {
        again.each([&](Real x) { take_exactly<E>(x, exact_pivot, limits, part); });
        again.advance();
      }
    }
    left -= n;
  }
  return part;
}

// Merge a channel's part, which every thread of the group has, into the state.
template <class E, class Threads>
__device__ void finish(const CudaArgs& a, const Threads& group, i64 channel, const Partial& part,
                       double pivot, i64* shared) {
  // All threads work it out and agree; one writes.
  const ChannelState before = load_state<i64>(a.state, a.row, channel);
  group.sync();
  double mean;
  if (is_coarse<E>(a, before, part, pivot, mean)) {
    fold_exactly<E>(a, group, channel, mean, shared);
  } else if (group.rank == 0) {
    fold_channel(a, channel, before, part, pivot);
  }
}

// A warp measures a channel. Grid: (channels / warps of a block).
template <class E, int kMode, class Slots>
__device__ void measure_by_warp(const CudaArgs& a) {
  const Group<kWarp> group;
  const i64 channel = static_cast<i64>(blockIdx.x) * (kThreads / kWarp) + threadIdx.x / kWarp;
  if (channel >= a.view.channels) return;
  const double pivot = warp_pivot<E>(a, channel);
  const Partial mine = measure_slots<E, kMode, Slots>(a, group, channel, 0, a.slots, pivot);
  finish<E>(a, group, channel, group.template sum<kMode>(mine, nullptr), pivot, nullptr);
}

// A block measures a part of a channel. Grid: (channels, splits).
template <class E, int kMode, class Slots>
__device__ void measure_by_block(const CudaArgs& a) {
  __shared__ i64 shared[sum_words(kThreads)];
  __shared__ double chosen;
  const Group<kThreads> group;
  const i64 channel = blockIdx.x;
  if (group.rank < kWarp) {
    const double pivot = warp_pivot<E>(a, channel);
    if (group.rank == 0) chosen = pivot;
  }
  __syncthreads();
  const double pivot = chosen;
  const i64 begin = static_cast<i64>(blockIdx.y) * a.per_split;
  const i64 end = begin + a.per_split < a.slots ? begin + a.per_split : a.slots;
  const Partial mine = measure_slots<E, kMode, Slots>(a, group, channel, begin, end, pivot);
  const Partial part = group.template sum<kMode>(mine, shared);
  const i64 step = kPartFields * a.part_row;
  if (group.rank == 0) store_part(a.parts + blockIdx.y * step + channel, a.part_row, part);
  if (!is_last(a.tickets + channel, a.splits)) return;
  // A field to a warp, splits to its lanes.
  for (int field = group.rank / kWarp; field < kPartFields; field += kThreads / kWarp) {
    i64 word = identity_word(field);
    for (unsigned s = group.rank % kWarp; s < a.splits; s += kWarp) {
      word = add_words(field, word, __ldcg(a.parts + s * step + field * a.part_row + channel));
    }
    word = warp_word(field, word);
    if (group.rank % kWarp == 0) shared[field] = word;
  }
  __syncthreads();
  const Partial whole = partial_of(shared, 1);
  __syncthreads();
  finish<E>(a, group, channel, whole, pivot, shared);
}

}  // namespace fmstats
