// The calls of the CUDA driver that a launch takes, found in libcuda at run time: fmstats is built
// and installed where there is none. Everything else goes through NVIDIA's Python bindings.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

namespace fmstats::cuda {

// A driver call that failed, by its name and the driver's own words.
class DriverError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// A kernel and where it runs: handles as the driver gives them.
struct Target {
  void* kernel;   // CUkernel or CUfunction
  void* context;  // CUcontext
  void* stream;   // CUstream
};

// Throws DriverError where there is no driver that can launch.
void check_driver();

// Launch with `args`, one struct by value, in the target's context. Throws DriverError.
void launch(const Target& target, unsigned grid_x, unsigned grid_y, unsigned block, void* args);

// The same, unless a graph is being captured from the stream, or that cannot be told: then false.
bool launch_eagerly(const Target& target, unsigned grid_x, unsigned grid_y, unsigned block,
                    void* args);

}  // namespace fmstats::cuda
