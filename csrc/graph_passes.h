// Passes of compiled graphs, which begin without Python while nothing but counting is to be done.
#pragma once

#include <pybind11/pybind11.h>

#include "state.h"

namespace fmstats {

// What hooks of a tracker share, in words of its own that Python reads and changes as well. They
// belong to objects of Python, and stay until the number is removed.
struct Pass {
  const i64* gate;  // kOpen, ...: see fmstats/tracking/gates.py
  i64* clocks;      // kPasses, ...: see fmstats/tracking/clocks.py
  i64* first_pass;  // of the clock of the CPU
  i64* counts;      // passes, and those of them that are measured
  i64* asked;       // how many passes the sampling was asked for
  i64 every;        // in how many passes it takes one
  int when;         // 0 in eval mode, 1 in training mode, -1 always
};

// Return a function that does what a Python function does that marks the boundaries of passes, if
// that is no more than to count. in_backward: returns -1 outside of a backward pass. is_traced:
// tells whether torch.jit traces.
pybind11::object make_begin_pass_directly(pybind11::object function, pybind11::object in_backward,
                                          pybind11::object is_traced);

// Let a number stand for the passes of a tracker, until it is removed.
void add_pass(i64 number, const Pass& pass);
void remove_pass(i64 number);

}  // namespace fmstats
