// Partials of all layers of a graph to their states. A block takes some channels of a layer: rows
// of threads share the planes, and are added up in an order of its own.
#pragma once

#include "fold_args.h"
#include "group.cuh"

namespace fmstats {

// What was loaded of a plane and channel: nothing where there is none. Nothing of partials is read
// twice, nor written while they are read.
template <int Together>
struct Loaded {
  static constexpr int kNumbers = (kPartCounts + Together - 1) / Together;
  float numbers[kNumbers];  // of Together counts each
#define FMSTATS_SUM(name, ...) double name;
#define FMSTATS_EXTREME(name, ...) int name;  // in the order of floats
  FMSTATS_PART_SUMS(FMSTATS_SUM)
  FMSTATS_EXTREMES(FMSTATS_EXTREME)
#undef FMSTATS_SUM
#undef FMSTATS_EXTREME
};

template <class T>
__device__ __forceinline__ T load_if(bool there, const void* field, i64 at, T other) {
  return there ? __ldg(static_cast<const T*>(field) + at) : other;
}

// The key of an infinity in the order of floats.
__device__ __forceinline__ constexpr int key_of(double infinity) {
  return infinity > 0 ? 0x7f800000 : ~0x7f800000;
}

template <int Together>
__device__ __forceinline__ Loaded<Together> load_plane(const FoldLayer& layer, bool there, i64 at) {
  Loaded<Together> loaded;
#pragma unroll
  for (int n = 0; n < Loaded<Together>::kNumbers; ++n) {
    const bool used = there && n * Together < layer.counts;
    loaded.numbers[n] = load_if(used, layer.counts_in[n], at, 0.0f);
  }
#define FMSTATS_SUM(name, Name, ...) \
  loaded.name = load_if(there, layer.reals[kPart##Name - kPartCounts], at, 0.0);
#define FMSTATS_EXTREME(name, Name, join, side) \
  loaded.name = load_if(there, layer.reals[kPart##Name - kPartCounts], at, key_of(side 1));
  FMSTATS_PART_SUMS(FMSTATS_SUM)
  FMSTATS_EXTREMES(FMSTATS_EXTREME)
#undef FMSTATS_SUM
#undef FMSTATS_EXTREME
  return loaded;
}

__device__ __forceinline__ double number_of_key(int key) {
  return static_cast<double>(__int_as_float(key ^ ((key >> 31) & 0x7fffffff)));
}

template <int Together>
__device__ __forceinline__ Partial unpack(const FoldLayer& layer, const Loaded<Together>& loaded) {
  int counts[kPartCounts];
#pragma unroll
  for (int i = 0; i < kPartCounts; ++i) {
    const int bits = static_cast<int>(loaded.numbers[i / Together]) >> (i % Together * layer.bits);
    counts[i] = bits & ((1 << layer.bits) - 1);
  }
  Partial part;
  const int mode = layer.mode;
  // Those that the mode does not have are left out of the numbers.
#define FMSTATS_COUNT(name, Name, ...) part.name = counts[kPart##Name];
#define FMSTATS_COMPARISON(name, Name, Mode)                                       \
  if (mode < k##Mode) {                                                            \
    for (int i = kPartCounts - 1; i > kPart##Name; --i) counts[i] = counts[i - 1]; \
    counts[kPart##Name] = 0;                                                       \
  }                                                                                \
  part.name = counts[kPart##Name];
#define FMSTATS_SUM(name, ...) part.name = loaded.name;
#define FMSTATS_EXTREME(name, ...) part.name = number_of_key(loaded.name);
  FMSTATS_NON_FINITE(FMSTATS_COUNT)
  FMSTATS_COMPARISONS(FMSTATS_COMPARISON)
  FMSTATS_PART_SUMS(FMSTATS_SUM)
  FMSTATS_EXTREMES(FMSTATS_EXTREME)
#undef FMSTATS_COUNT
#undef FMSTATS_COMPARISON
#undef FMSTATS_SUM
#undef FMSTATS_EXTREME
  return part;
}

// Add up every so many planes of a channel, from `plane` on: two are loaded before one is added.
template <int Together>
__device__ __forceinline__ Partial add_planes(const FoldLayer& layer, i64 channel, int plane,
                                              int step) {
  Partial sum = empty_partial();
#pragma unroll 1
  for (; plane < layer.planes; plane += 2 * step) {
    const i64 at = static_cast<i64>(plane) * layer.channels + channel;
    const i64 next = at + static_cast<i64>(step) * layer.channels;
    const Loaded<Together> first = load_plane<Together>(layer, true, at);
    const Loaded<Together> second = load_plane<Together>(layer, step < layer.planes - plane, next);
    add(sum, unpack(layer, first));
    add(sum, unpack(layer, second));
  }
  return sum;
}

// The same, of numbers of however many counts.
__device__ __forceinline__ Partial add_planes(const FoldLayer& layer, i64 channel, int plane,
                                              int step) {
  switch (layer.together) {
    case 1:
      return add_planes<1>(layer, channel, plane, step);
    case 2:
      return add_planes<2>(layer, channel, plane, step);
    case 3:
      return add_planes<3>(layer, channel, plane, step);
    case 4:
      return add_planes<4>(layer, channel, plane, step);
    default:
      return add_planes<kPartCounts>(layer, channel, plane, step);
  }
}

// The last layer whose blocks begin at this one or before it.
__device__ __forceinline__ int layer_of_block(const FoldArgs& a) {
  int first = 0, beyond = a.count;
  while (beyond - first > 1) {
    const int middle = (first + beyond) / 2;
    if (a.layers[middle].first_block <= blockIdx.x) {
      first = middle;
    } else {
      beyond = middle;
    }
  }
  return first;
}

// Merge a channel's part into its state.
__device__ __forceinline__ void merge_part(const FoldLayer& layer, i64 channel, const Partial& part,
                                           i64* clock) {
  const i64 row = layer.channels;
  if (non_finite_count(part) != 0) note_non_finite(layer.memory, row, channel, clock);
  const ChannelState before = load_state<i64>(layer.memory, row, channel);
  store_state(layer.memory, row, channel, merge(before, to_state(part, layer.positions, 0.0)));
}

// The sum over rows of threads, in the first one. `shared`: a part of every thread.
__device__ __forceinline__ void add_rows(Partial& mine, int row, int rows, int lanes, int planes,
                                         i64* shared) {
  for (int half = rows / 2; half > 0; half /= 2) {
    if (half >= planes) continue;  // no row from there on has a plane
    i64* const words = shared + threadIdx.x;
    if (row >= half && row < 2 * half) store_part(words, kFoldThreads, mine);
    __syncthreads();
    if (row < half) add(mine, part_of<Partial>(words + half * lanes, kFoldThreads));
  }
}

__device__ __forceinline__ void fold_graph(const FoldArgs& a) {
  if (!gate_open(a.clock)) return;
  __shared__ i64 shared[kPartFields * kFoldThreads];
  int number = layer_of_block(a);
  const i64* const memory = a.layers[number].memory;
  const int lanes = a.layers[number].lanes, rows = kFoldThreads / lanes;
  const int row = static_cast<int>(threadIdx.x) / lanes;
  const i64 tile = blockIdx.x - a.layers[number].first_block;
  const i64 channel = tile * lanes + static_cast<int>(threadIdx.x) % lanes;
  // Layers of one state one after the other.
  for (; number < a.count && a.layers[number].memory == memory; ++number) {
    const FoldLayer& layer = a.layers[number];
    const bool mine = channel < layer.channels;
    Partial part = empty_partial();
    if (mine) part = add_planes(layer, channel, row, rows);
    add_rows(part, row, rows, lanes, layer.planes, shared);
    if (row == 0 && mine) merge_part(layer, channel, part, a.clock);
    if (row == 0 && channel == 0) layer.memory[kFields * static_cast<i64>(layer.channels)] += 1;
    __syncthreads();  // before `shared` is written again
  }
}

}  // namespace fmstats
