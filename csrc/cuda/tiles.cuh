// The columns kernel: pivots before, the parts of a tile's splits merged after.
#pragma once

#include "columns.cuh"

namespace fmstats {

// Add up parts [from, from + count) of a channel. Neighbouring threads read neighbouring channels.
template <class Part>
__device__ __forceinline__ Part add_parts(const CudaArgs& a, i64 channel, unsigned from,
                                          unsigned count) {
  const i64 step = kPartWords<Part> * a.part_row;
  const i64* words = a.parts + from * step + channel;
  Part sum = empty_part<Part>();
#pragma unroll 4
  for (unsigned i = 0; i < count; ++i) add(sum, load_part<Part>(words + i * step, a.part_row));
  return sum;
}

// Whether this block is the last of its tile. Then `fold(channel of the tile, Part)` is called
// for every channel of it.
//
// The last block of a group of splits adds up the group, into a part behind those of the splits;
// the last of these adds up the groups: one block alone would read splits x 80 bytes a channel. The
// tickets of a tile are its own and those of its groups.
template <class Part, class Fold>
__device__ __forceinline__ bool fold_parts(const CudaArgs& a, i64 c0, int tile, Fold fold) {
  unsigned* tickets = a.tickets + blockIdx.x * (1 + a.groups);
  const unsigned size = (a.splits + a.groups - 1) / a.groups;  // of a group but the last
  const unsigned group = blockIdx.y / size, first = group * size;
  const unsigned count = first + size < a.splits ? size : a.splits - first;
  if (!is_last(tickets + 1 + group, count)) return false;
  for (int c = threadIdx.x; c < tile; c += kColumnThreads) {
    const Part sum = add_parts<Part>(a, c0 + c, first, count);
    if (a.groups == 1) {
      fold(c, sum);
    } else {
      const i64 part = (a.splits + group) * (kPartWords<Part> * a.part_row);
      store_part(a.parts + part + c0 + c, a.part_row, sum);
    }
  }
  if (a.groups == 1) return true;
  if (!is_last(tickets, a.groups)) return false;
  for (int c = threadIdx.x; c < tile; c += kColumnThreads) {
    fold(c, add_parts<Part>(a, c0 + c, a.splits, a.groups));
  }
  return true;
}

// Channels are those of the state. Grid: (tiles, splits).
template <class E, int kMode, bool kOne, class Args>
__device__ __forceinline__ void measure_columns(const Args& a) {
  typedef Columns<E, kMode, kOne, Args> Block;
  typedef typename Chosen<Args>::Part Part;
  constexpr int kHistograms = kAsked.scope == kOfChannel ? Block::kMaxTile : 1;
  __shared__ typename Block::Tile totals;
  __shared__ i64 sums[sum_words<Part>(kColumnThreads)];
  __shared__ Bins<kHistograms, kSharedBytes - kOtherBytes - Block::kTileBytes> bins;
  static_assert(sizeof totals <= Block::kTileBytes + 16, "args.h must know what a tile takes");
  const int width = a.lanes * Block::kVector;
  const i64 c0 = Chosen<Args>::tile_in_state(a, width);
  const i64 room = a.view.channels - Chosen<Args>::in_tensor(a, c0);
  const int tile = static_cast<int>(room < width ? room : width);
  for (int c = threadIdx.x; c < width; c += kColumnThreads) {
    totals.clear(c);
    totals.pivot[c] = c < tile ? thread_pivot<E>(a, c0 + c) : 0;
  }
  bins.clear();
  __syncthreads();
  Block(a, c0, totals).measure(bins, bins_of(a, c0));
  if constexpr (kCountsBins) {
    for (int h = 0; h < (kAsked.scope == kOfChannel ? tile : 1); ++h) {
      bins.add_to(bins_of(a, c0 + h), h, static_cast<int>(threadIdx.x), kColumnThreads);
    }
  }
  const i64 step = kPartWords<Part> * a.part_row;
  for (int c = threadIdx.x; c < tile; c += kColumnThreads) {
    store_part(a.parts + blockIdx.y * step + c0 + c, a.part_row, totals.part(c));
  }
  const bool last = fold_parts<Part>(a, c0, tile, [&](int c, const Part& part) {
    double pivot = totals.pivot[c];
    const double unit = fold_unless_coarse<E>(a, c0 + c, part, pivot);
    totals.sum[c] = pivot;  // to read it again with
    totals.sum_sq[c] = unit;
    // In the place of this block's own part, which has been read.
    if (unit != 0.0) store_part(a.parts + blockIdx.y * step + c0 + c, a.part_row, part);
  });
  if (!last) return;
  bool coarse = false;
  for (int c = threadIdx.x; c < tile; c += kColumnThreads) coarse |= totals.sum_sq[c] != 0.0;
  if (!__syncthreads_or(coarse)) return;
  const Group<kColumnThreads> group;
#pragma unroll 1
  for (int c = 0; c < tile; ++c) {
    const Again again = {totals.sum[c], totals.sum_sq[c]};
    if (again.unit == 0.0) continue;
    const Part part = load_part<Part>(a.parts + blockIdx.y * step + c0 + c, a.part_row);
    fold_again<E>(a, group, c0 + c, part, again, sums);
  }
}

}  // namespace fmstats
