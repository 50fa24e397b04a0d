// One channel to a warp or a block: NCHW, where runs of positions are contiguous, and any strides
// at all, an element at a time.
#pragma once

#include "fold.cuh"
#include "measure.cuh"
#include "ragged.cuh"

namespace fmstats {

enum Runs { kWholeRuns, kRaggedRuns, kNoRuns };

constexpr int kRunBinBytes = kSharedBytes - kOtherBytes;
constexpr int kRowWarps = kThreads / kWarp;

// What this thread has of split `split` of a channel. Of ragged runs: whole vectors, then the rest.
template <class E, int kMode, Runs kRuns, class Args, class Threads, class Counter>
__device__ __forceinline__ typename Chosen<Args>::Part measure_split(const Args& a,
                                                                     const Threads& group,
                                                                     i64 channel, i64 split,
                                                                     typename E::Real pivot,
                                                                     const Counter& counter) {
  auto part = empty_part<typename Chosen<Args>::Part>();
  const i64 begin = split * a.per_split + group.rank;
  const i64 stop = (split + 1) * a.per_split;
  const i64 end = stop < a.slots ? stop : a.slots;
  const i64 count = begin < end ? (end - begin + group.size - 1) / group.size : 0;
  if constexpr (kRuns == kNoRuns) {
    const auto walk = walk_over<Positions<E>>(a, channel, begin, group.size);
    measure<E, kMode>(a, walk, count, pivot, counter, part);
  } else if constexpr (kRuns == kWholeRuns) {
    const auto walk = walk_over<Vectors<E>>(a, channel, begin, group.size);
    measure<E, kMode>(a, walk, count, pivot, counter, part);
  } else {
    static_assert(!Chosen<Args>::kSome, "the edges of runs have no groups");
    measure<E, kMode>(a, RaggedVectors<E>(a, channel, begin), count, pivot, counter, part);
    typedef RaggedEdges<E> Edges;
    const i64 all = a.view.dim_count > 1 ? a.view.size[0] : 1, first = split * a.edge_runs;
    const i64 runs = all - first < a.edge_runs ? all - first : a.edge_runs;
    const Edges edges(a, channel, first, group.rank, group.size);
    measure<E, kMode>(a, edges, Edges::count(runs, group.rank, group.size), pivot, counter, part);
  }
  return part;
}

// A warp measures a channel of the state. Grid: (channels / warps of a block).
template <class E, int kMode, Runs kRuns, class Args>
__device__ __forceinline__ void measure_by_warp(const Args& a) {
  // Warps have one histogram together where all count into the same of the state.
  constexpr bool kShare = kAsked.scope == kOfLayer && !Chosen<Args>::kSome;
  __shared__ Bins<kShare ? 1 : kRowWarps, kRunBinBytes> bins;
  const Group<kWarp> group;
  const i64 channel = static_cast<i64>(blockIdx.x) * kRowWarps + threadIdx.x / kWarp;
  const int warp = static_cast<int>(threadIdx.x / kWarp);
  const bool mine = channel < Chosen<Args>::state_channels(a);
  i64* const into = bins_of(a, kShare || !mine ? 0 : channel);
  bins.clear();
  bins.meet();
  if (mine) {
    const typename E::Real pivot = warp_pivot<E>(a, channel);
    const auto counter = bins.counter(kShare ? 0 : warp, into);
    const auto part = measure_split<E, kMode, kRuns>(a, group, channel, 0, pivot, counter);
    finish<E>(a, group, channel, group.template sum<kMode>(part, nullptr), pivot, nullptr);
  }
  bins.meet();
  if (kShare) {
    bins.add_to(into, 0, static_cast<int>(threadIdx.x), kThreads);
  } else if (mine) {
    bins.add_to(into, warp, group.rank, kWarp);
  }
}

// A block measures a part of a channel of the state. Grid: (channels, splits).
template <class E, int kMode, Runs kRuns, class Args>
__device__ __forceinline__ void measure_by_block(const Args& a) {
  typedef typename Chosen<Args>::Part Part;
  constexpr int kWords = kPartWords<Part>;
  __shared__ i64 shared[sum_words<Part>(kThreads)];
  __shared__ typename E::Real chosen;
  __shared__ Bins<1, kRunBinBytes> bins;
  const Group<kThreads> group;
  const i64 channel = blockIdx.x;
  bins.clear();
  if (group.rank < kWarp) {
    const typename E::Real pivot = warp_pivot<E>(a, channel);
    if (group.rank == 0) chosen = pivot;
  }
  __syncthreads();
  const typename E::Real pivot = chosen;
  i64* const into = bins_of(a, channel);
  const auto counter = bins.counter(0, into);
  Part part = measure_split<E, kMode, kRuns>(a, group, channel, blockIdx.y, pivot, counter);
  part = group.template sum<kMode>(part, shared);
  bins.add_to(into, 0, group.rank, kThreads);
  if (a.splits > 1) {
    const i64 step = kWords * a.part_row;
    if (group.rank == 0) store_part(a.parts + blockIdx.y * step + channel, a.part_row, part);
    if (!is_last(a.tickets + channel, a.splits)) return;
    // A field to a warp, splits to its lanes.
    for (int field = group.rank / kWarp; field < kWords; field += kThreads / kWarp) {
      i64 word = identity_word(field);
      for (unsigned s = group.rank % kWarp; s < a.splits; s += kWarp) {
        word = add_words(field, word, __ldcg(a.parts + s * step + field * a.part_row + channel));
      }
      word = warp_word(field, word);
      if (group.rank % kWarp == 0) shared[field] = word;
    }
    __syncthreads();
    part = part_of<Part>(shared, 1);
    __syncthreads();
  }
  finish<E>(a, group, channel, part, pivot, shared);
}

}  // namespace fmstats
