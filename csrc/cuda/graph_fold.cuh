// Partials of all layers of a graph to their states. A block takes some channels of a layer: rows
// of threads share the planes, and are added up in an order of its own.
#pragma once

#include "fold_args.h"
#include "group.cuh"

namespace fmstats {

// Nothing of partials is read twice, nor written while they are read.
template <class T>
__device__ __forceinline__ T read_partial(const void* field, i64 at) {
  return __ldg(static_cast<const T*>(field) + at);
}

// Of one that the layer's mode may not have.
template <class Count>
__device__ __forceinline__ i64 read_count(const void* field, i64 at) {
  return field == nullptr ? 0 : static_cast<i64>(read_partial<Count>(field, at));
}

// Extremes are integers in the order of floats.
__device__ __forceinline__ double read_extreme(const void* field, i64 at) {
  const int key = read_partial<int>(field, at);
  return static_cast<double>(__int_as_float(key ^ ((key >> 31) & 0x7fffffff)));
}

// Add up every so many planes of a channel, from `plane` on.
template <class Count>
__device__ __forceinline__ Partial add_planes(const FoldLayer& layer, i64 channel, int plane,
                                              int step) {
  Partial sum = empty_partial();
#pragma unroll 2
  for (; plane < layer.planes; plane += step) {
    const i64 at = static_cast<i64>(plane) * layer.channels + channel;
    Partial part;
#define FMSTATS_COUNT(name, Name, ...) part.name = read_count<Count>(layer.fields[kPart##Name], at);
#define FMSTATS_SUM(name, Name, ...) \
  part.name = read_partial<double>(layer.fields[kPart##Name], at);
#define FMSTATS_EXTREME(name, Name, ...) part.name = read_extreme(layer.fields[kPart##Name], at);
    FMSTATS_PART_COUNTS(FMSTATS_COUNT)
    FMSTATS_PART_SUMS(FMSTATS_SUM)
    FMSTATS_EXTREMES(FMSTATS_EXTREME)
#undef FMSTATS_COUNT
#undef FMSTATS_SUM
#undef FMSTATS_EXTREME
    add(sum, part);
  }
  return sum;
}

// The same, of counts of either type.
__device__ __forceinline__ Partial add_planes(const FoldLayer& layer, i64 channel, int plane,
                                              int step) {
  return layer.wide ? add_planes<i64>(layer, channel, plane, step)
                    : add_planes<float>(layer, channel, plane, step);
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
    if (row < half) add(mine, partial_of(words + half * lanes, kFoldThreads));
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
