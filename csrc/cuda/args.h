// What a launch is given: one struct by value, filled on the host (planner.cpp), read by the
// kernels.
#pragma once

#include "../view.h"
#include "asked.h"

namespace fmstats {

constexpr int kWarp = 32;
constexpr int kThreads = 256;        // of a block of rows or strided
constexpr int kRowBlocks = 2;        // of these on a multiprocessor
constexpr int kColumnThreads = 128;  // of a block of columns
constexpr int kSlotBytes = 16;       // of a vector load

constexpr int kSharedBytes = 48 << 10;  // that a block may declare
constexpr int kOtherBytes = 2 << 10;    // at most, of it for what is neither a tile nor a histogram

// Blocks of columns that a multiprocessor is to hold, by the bytes of an element: those of 8 bits
// have 16 channels a thread and take more registers, as power sums do.
FMSTATS_FN constexpr int column_blocks(i64 bytes, bool sums) {
  return bytes == 1 || sums ? 2 : 4;
}

// Bytes of shared memory that a block of columns has of so many channels, `vector` a thread, whose
// numbers have `real` bytes (totals.cuh).
FMSTATS_FN constexpr int tile_bytes(int channels, int vector, int real, bool sums) {
#define FMSTATS_ONE(...) +1
  constexpr int kSums = 0 FMSTATS_PART_SUMS(FMSTATS_ONE);
  constexpr int kReals = 1 FMSTATS_EXTREMES(FMSTATS_ONE);  // and a pivot
#undef FMSTATS_ONE
  const int doubles = kSums + (sums ? kPowerSums : 0);
  const int of_channel = 8 * doubles + real * kReals + 4 * kPartCounts;
  return channels * of_channel + kColumnThreads * vector * real;
}

// Threads of a block of columns side by side on a position, at most: so many that shared memory has
// room for their tile and its histograms. 0: not even for those of one.
FMSTATS_FN constexpr int lanes_in_room(int vector, int real, const Asked& asked) {
  int lanes = kWarp;
  for (; lanes > 0; lanes /= 2) {
    const int tile = tile_bytes(lanes * vector, vector, real, asked.sums);
    const int histograms = histogram_bytes(asked, lanes * vector);
    if (tile + histograms <= kSharedBytes - kOtherBytes) break;
  }
  return lanes;
}
// The same, where histograms for which there is no room are left out of it.
FMSTATS_FN constexpr int most_lanes(int vector, int real, const Asked& asked) {
  const int lanes = lanes_in_room(vector, real, asked);
  return lanes > 0 ? lanes : lanes_in_room(vector, real, {asked.sums, kNoHistogram, 0});
}

// Rows: contiguous runs of whole vectors. Ragged: runs that begin or end within one. `Warp`: a
// channel to a warp, else to a block. `One`: an element at a time, else 16 bytes.
enum CudaKernel {
  kRows,
  kRowsWarp,
  kRagged,
  kRaggedWarp,
  kStrided,
  kStridedWarp,
  kColumns,
  kColumnsOne,
  kCudaKernels
};

// A division of numbers below 2^31 by one that is at least 2 and known on the host (Granlund,
// Montgomery 1994): the quotient is the upper half of n * multiplier, shifted.
struct Divisor {
  unsigned multiplier;
  int shift;
};

struct CudaArgs {
  View view;
  Thresholds thresholds;  // rounded for comparisons in the element's own type
  i64 limits[3];          // the same three as packs: packs.cuh
  i64* state;             // words, field-major: state.h
  i64 row;                // words from one field of the state to the next
  i64* clock;             // what time it is: state.h
  i64* replays;           // of a captured launch, counted by each replay; else null
  i64* parts;             // parts.h
  i64 part_row;
  unsigned* tickets;  // see fold_parts; all 0 between launches
  i64 positions;
  int narrow;               // positions below 2^31: divisors serve
  Divisor by[kMaxDims];     // of a position by size[], where d > 0
  unsigned splits, groups;  // parts of a channel or tile, merged in groups
  i64 slots, per_split;     // what threads walk: vectors (rows), positions (columns, strided)

  // A step over all threads of a group, where a view has one or two dims: so many runs and so many
  // places on in the run, and where that leads beyond the run's last place, `run_places` back and a
  // run further. Places are vectors (rows, ragged) or positions. Sizes in bytes.
  int in_runs;  // whether the walk is one
  int run_places, step_places;
  i64 run_stride_bytes, place_bytes;  // from a run or place to the next
  i64 step_bytes, wrap_bytes;
  Divisor by_run_places;  // unused where there is one

  // Ragged. A run has `run_places` whole vectors at most.
  int run_bytes;
  i64 edge_runs;  // of a split: runs whose ends, outside whole vectors, it reads

  int lanes;  // columns: threads side by side on a position, a power of 2

  Requested requested;  // where what is asked for goes
};

// How the numbers of a vector's positions lie: one number stands for all of them, they are
// neighbours in memory, or each is looked up.
enum VectorNumbers { kOneNumber, kNeighbours, kLookedUp };

// The group of each position. Positions are counted through as those of the view, but by dims that
// are the numbers' own: a mask of samples has two, whatever the tensor has.
struct GroupNumbers {
  const unsigned char* data;
  int dim_count;  // at least 2
  i64 size[kMaxDims], stride[kMaxDims];
  Divisor by[kMaxDims];  // of a position by size[], where d > 0
  int quick;             // two dims, and positions below 2^31: a division finds a number
  int of_vector;         // VectorNumbers
  int groups;            // that there are; no number is above
};

// Of a tensor whose positions are in groups: the state has all channels of the view for each
// group, one after the other, and so have parts.
struct GroupedArgs : CudaArgs {
  GroupNumbers numbers;
};

}  // namespace fmstats
