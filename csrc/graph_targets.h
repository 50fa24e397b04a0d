// What compiled graphs measure: the kernels of `fmstats::observe` and `fmstats::observe_on_host`,
// which find a layer by its number and measure a tensor as the last one without Python in between.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>

#include "state.h"

namespace fmstats {

// Have the dispatcher of torch call our kernels on a device type, such as "CPU" or "CUDA". What
// they do not recognise they hand to the operation of this name and `_in_python`. `in_backward`:
// returns -1 outside of a backward pass. Throws std::runtime_error where this torch cannot.
void register_observe(const std::string& device_type, pybind11::object in_backward);

// Return a function that does what the operation does, for plain tensors: by our kernel at once,
// where the dispatcher would take microseconds; what that does not recognise it hands to the
// operation. api: the capsule of the exchange API of torch's tensors; without one, the operation.
pybind11::object make_observe_directly(pybind11::object operation, const pybind11::object& api);
pybind11::object make_observe_on_host_directly(pybind11::object operation,
                                               const pybind11::object& api);

// Let a number stand for a plan, which measures while the word at `open` is not 0, until the number
// is removed. memory: holds what the plan fills.
void add_graph_target(i64 number, pybind11::object plan, pybind11::object memory,
                      std::uintptr_t open);
void remove_graph_target(i64 number);

// How many tensors it has measured since this was asked last.
i64 take_graph_calls(i64 number);

}  // namespace fmstats
