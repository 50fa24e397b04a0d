// What the driver asks of a kernel: plain data and function pointers, the only things that cross
// between code compiled for the baseline and code compiled for one instruction set.
#pragma once

#include "../statistic.h"

namespace fmstats {

enum DType { kFloat32, kFloat64, kFloat16, kBFloat16, kFloat8E4M3, kFloat8E5M2, kDTypes };

constexpr int kMaxDims = 64;  // torch's own limit

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
  const double* pivot;  // one a channel, exact in the type that the kernel computes in
};

// A task: measure channels [c0, c1) over positions [p0, p1) into parts[0 .. c1 - c0).
// p1 - p0 is below 2^31, so that a 32-bit lane cannot overflow.
using Scan = void (*)(const Job& job, i64 c0, i64 c1, i64 p0, i64 p1, Partial* parts);

struct Kernels {
  const char* isa;  // the instruction set
  int vector_bytes;
  Scan rows[kDTypes];     // the run is contiguous
  Scan columns[kDTypes];  // the channels are contiguous
  Scan strided[kDTypes];  // neither
};

}  // namespace fmstats
