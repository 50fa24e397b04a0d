// What the driver asks of a kernel: plain data and function pointers, the only things that cross
// between code compiled for the baseline and code compiled for one instruction set.
#pragma once

#include "../statistic.h"

namespace fmstats {

enum DType { kFloat32, kFloat64, kFloat16, kBFloat16, kFloat8E4M3, kFloat8E5M2, kDTypes };

constexpr int kMaxDims = 64;  // torch's own limit

// Most channels of a task of a columns kernel, which keeps their accumulators, about 10 KB: two
// blocks of their rows and these should stay in the first-level caches.
constexpr i64 kColumnTile = 256;

// A tensor as channels x positions. Strides in elements. dims[] are the sizes and strides of the
// positions, outermost first; the last one is the run that kernels walk along.
struct View {
  const void* data;
  DType dtype;
  i64 channels, channel_stride;
  int dim_count;  // at least 1
  i64 size[kMaxDims], stride[kMaxDims];
};

struct Job {
  View view;
  Thresholds thresholds;
  i64* state;    // words, field-major: statistic.h
  i64 row;       // words from one field of the state to the next
  i64 part_row;  // words from one field of the parts to the next
};

enum PartField {
  kPartNan,
  kPartPosInf,
  kPartNegInf,
  kPartZeros,
  kPartSatLow,
  kPartSatHigh,
  kPartSum,
  kPartSumSq,
  kPartMin,
  kPartMax,
  kPartFields
};

// What a call keeps beside the state. `parts` has the layout of a state: word (field, channel) of
// split s at parts[(s * kPartFields + field) * part_row + channel].
struct Scratch {
  double* pivot;  // one a channel, exact in the type that the kernels compute in
  i64* parts;
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
  // Choose the pivots of channels [c0, c1).
  void (*choose_pivots)(const Job& job, i64 c0, i64 c1, double* pivot);
  // Merge the parts of channels [c0, c1) into the state.
  void (*fold)(const Job& job, i64 c0, i64 c1, i64 splits, const Scratch& scratch);
};

}  // namespace fmstats
