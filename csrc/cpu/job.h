// What the driver asks of a kernel: plain data and function pointers, the only things that cross
// between code compiled for the baseline and code compiled for one instruction set.
#pragma once

#include "../parts.h"
#include "../requested.h"
#include "../view.h"

namespace fmstats {

constexpr int kLineBytes = 64;  // of the cache

// Most channels of a task of a columns kernel, which keeps their accumulators: at most 160 KB, in
// the second-level cache.
constexpr i64 kColumnTile = 4096;

// A stretch of positions that count: from number `first` of those that do, `offset` elements from
// the channel's first.
struct Stretch {
  i64 first, offset;
};

// A view of which all positions count, or those of `stretches` alone: then it has one dim, of as
// many positions as count, with the stride within stretches. Or those that `numbers` say are in the
// group: kernels of rows can walk all positions and leave out the others.
struct MaskedView : View {
  i64 counted;               // how many positions count
  const Stretch* stretches;  // in order; behind the last one, one that would come next. Or null.
  i64 stretch_count;
  const unsigned char* numbers;  // of the groups of all positions in turn. Or null.
  unsigned char group;
};

// All positions of a view.
FMSTATS_FN MaskedView whole(const View& view) {
  return {view, position_count(view), nullptr, 0, nullptr, 0};
}

struct Job {
  MaskedView view;
  Thresholds thresholds;
  Mode mode;     // of the comparisons that these thresholds need: chosen in Python
  i64* state;    // words, field-major: state.h
  i64 row;       // words from one field of the state to the next
  i64* clock;    // what time it is: state.h
  i64 part_row;  // words from one field of the parts to the next
  Requested requested;
  bool shared;  // whether several threads may be in it
};

// What a call keeps beside the state.
struct Scratch {
  double* pivot;   // one a channel, exact in the type that the kernels compute in
  i64* parts;      // see ../parts.h
  double* powers;  // PowerSums, field-major as parts: of split s from s * kPowerSums * part_row on
};

// The bins of elements on their way into a histogram (tally.h). One a thread, of zeros between
// calls.
constexpr int kTallyCopies = 4;
constexpr int kTallyReady = 2048;
struct Tally {
  unsigned short counts[kTallyCopies * (kMostBins + 64)];
  unsigned short ready[kTallyReady + 64];  // indices of bins
  int waiting;                             // how many of these
  i64 counted;                             // since the counts were 0
};

// The functions of one instruction set.
struct Kernels {
  // Measure channels [c0, c1) over positions [p0, p1) into the parts at `parts`, those of channel 0
  // of the split. p1 - p0 is below 2^31, so that a 32-bit lane cannot overflow.
  using Scan = void (*)(const Job& job, const double* pivot, i64 c0, i64 c1, i64 p0, i64 p1,
                        i64* parts);

  const char* isa;  // the instruction set
  int vector_bytes;
  Scan rows[kDTypes];     // the run is contiguous
  Scan columns[kDTypes];  // the channels are contiguous
  Scan strided[kDTypes];  // neither
  // Measure channels [c0, c1), which are contiguous, over all positions, at most few_positions,
  // into the state.
  void (*few[kDTypes])(const Job& job, i64 c0, i64 c1);
  i64 few_positions;
  // Measure what is requested of channels [c0, c1) over positions [p0, p1): power sums into those
  // of `powers`, as parts, and histograms by way of the tally.
  void (*request[kDTypes])(const Job& job, const double* pivot, i64 c0, i64 c1, i64 p0, i64 p1,
                           double* powers, Tally& tally);
  // Count what is left in a tally of a histogram of all channels.
  void (*settle)(const Job& job, Tally& tally);
  // Merge the power sums of channels [c0, c1) into the state, as it was before `fold`.
  void (*fold_requested)(const Job& job, i64 c0, i64 c1, i64 splits, const Scratch& scratch);
  // Choose the pivots of channels [c0, c1).
  void (*choose_pivots)(const Job& job, i64 c0, i64 c1, double* pivot);
  // Merge the parts of channels [c0, c1) into the state.
  void (*fold)(const Job& job, i64 c0, i64 c1, i64 splits, const Scratch& scratch);
};

}  // namespace fmstats
