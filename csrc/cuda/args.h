// What a launch is given: one struct by value, filled on the host (plan.cpp), read by the kernels.
#pragma once

#include "../parts.h"
#include "../statistic.h"
#include "../view.h"

namespace fmstats {

constexpr int kWarp = 32;
constexpr int kThreads = 256;        // of a block of rows
constexpr int kColumnThreads = 128;  // of a block of columns

// `Warp`: a channel to a warp, else to a block. `One`: an element at a time, else 16 bytes.
enum CudaKernel { kRows, kRowsWarp, kStrided, kStridedWarp, kColumns, kColumnsOne, kCudaKernels };

// Channels that a thread of the columns kernel reads at once, of elements of so many bytes.
template <int kBytes>
constexpr int kColumnVector = kBytes == 1 ? 8 : 16 / kBytes;

struct CudaArgs {
  View view;
  Thresholds thresholds;
  i64* state;  // words, field-major: statistic.h
  i64 row;     // words from one field of the state to the next
  i64* parts;  // parts.h
  i64 part_row;
  unsigned* tickets;  // one a channel, or a tile of channels; all 0 between launches
  i64 positions;

  // A channel, or a tile, is cut into `splits` parts of `per_split` slots. A slot is what a thread
  // reads at a time: 16 bytes of a run (rows), a position (columns, strided).
  i64 slots, per_split;
  unsigned splits;
  int lanes;      // columns: threads side by side on a position, a power of 2
  int aligned;    // rows: every run begins and ends on 16 bytes
  i64 run_slots;  // rows: slots of a run
};

}  // namespace fmstats
