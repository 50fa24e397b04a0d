// The CPU backend: fold one tensor into a state.
#pragma once

#include "job.h"

namespace fmstats {

// Fold the tensor into the state: word (field, channel) at state[field * row + channel],
// statistic.h. Thresholds must be exact in the type that the kernels compute in (float32; float64
// for float64). The result's bits depend on the tensor, the state and `kernels`, not on `threads`.
void accumulate(const Kernels& kernels, const View& view, const Thresholds& thresholds, i64* state,
                i64 row, int threads);

}  // namespace fmstats
