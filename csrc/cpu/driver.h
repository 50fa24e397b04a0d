// The CPU backend: update a state with one tensor.
#pragma once

#include "job.h"

namespace fmstats {

// Which positions count: not those where a byte is 0.
struct Mask {
  const unsigned char* data;
  i64 stride[kMaxDims];  // of the mask, by the dims of the view
};

// Update the state with the tensor, or what a mask leaves of it: word (field, channel) at
// state[field * row + channel], state.h. Thresholds must be exact in the type that the kernels
// compute in (float32; float64 for float64), and `mode` must make every comparison that they need.
// `clock` has the words of ClockWord. The result's bits depend on the tensor, the state, the clock
// and `kernels`, not on `threads`.
void accumulate(const Kernels& kernels, const View& view, const Mask* mask,
                const Thresholds& thresholds, Mode mode, i64* state, i64 row, i64* clock,
                int threads);

}  // namespace fmstats
