// A tensor as channels x positions: what every backend's kernels are given. The Python twin is
// fmstats/statistic/view.py. Includes nothing but the statistic, for NVRTC.
#pragma once

#include "state.h"

namespace fmstats {

enum DType { kFloat32, kFloat64, kFloat16, kBFloat16, kFloat8E4M3, kFloat8E5M2, kDTypes };

constexpr int kMaxDims = 64;  // torch's own limit

// Strides in elements. size[] and stride[] are of the positions, outermost first; the last one is
// the run that kernels walk along.
struct View {
  const void* data;
  DType dtype;
  i64 channels, channel_stride;
  int dim_count;  // at least 1
  i64 size[kMaxDims], stride[kMaxDims];
};

// The group of each position, from 1 on; 0 where it does not count.
struct Groups {
  const unsigned char* numbers;
  i64 stride[kMaxDims];  // of the numbers, by the dims of the view
  int count;
};

FMSTATS_FN i64 position_count(const View& view) {
  i64 count = 1;
  for (int d = 0; d < view.dim_count; ++d) count *= view.size[d];
  return count;
}

}  // namespace fmstats
