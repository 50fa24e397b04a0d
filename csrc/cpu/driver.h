// The CPU backend: update a state with one tensor.
#pragma once

#include "job.h"

namespace fmstats {

// Where what is known of a tensor's channels goes.
struct Destination {
  i64* state;  // words, field-major: ../state.h
  i64 row;     // words from one field to the next
  i64* clock;  // what time it is: ../state.h
  Requested requested;
};

// Update the state with the tensor: word (field, channel) at state[field * row + channel],
// state.h. Of positions in groups, which may be null, those of group k are the channels from
// (k - 1) * view.channels on. Thresholds must be exact in the type that the kernels
// compute in (float32; float64 for float64), and `mode` must make every comparison that they need.
// `clock` has the words of ClockWord. The result's bits depend on the tensor, the state, the clock
// and `kernels`, not on `threads`.
void accumulate(const Kernels& kernels, const View& view, const Groups* groups,
                const Thresholds& thresholds, Mode mode, const Destination& target, int threads);

}  // namespace fmstats
