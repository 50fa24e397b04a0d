// A layer's way into the CUDA kernels: a tensor as the last one goes from the hook to the driver
// without a Python call in between.
#pragma once

#include "cuda/driver.h"
#include "cuda/planner.h"
#include "expected_tensor.h"

namespace fmstats {

// What a launch reads and writes beside the tensor: addresses on the device.
struct CudaMemory {
  std::uintptr_t state;
  i64 row;  // words from one field of the state to the next
  std::uintptr_t parts, tickets;
};

class CudaPlan {
 public:
  CudaPlan(pybind11::object tensor_type, const pybind11::object& api, int device_type,
           int device_id);

  // Launch on a tensor, and expect tensors of its dtype, sizes, strides and alignment, on this
  // stream, from now on. thresholds: rounded for the element's type; limits: the same as packs, see
  // cuda/packs.cuh. Throws cuda::DriverError; then nothing was launched.
  void fold(const CudaLaunch& launch, const pybind11::tuple& shape, const pybind11::tuple& strides,
            const pybind11::tuple& thresholds, const pybind11::tuple& limits,
            const CudaMemory& memory, std::uintptr_t kernel, std::uintptr_t context,
            std::uintptr_t stream);

  // Launch on x if it is a tensor as the last one, on the same stream, and no graph is captured.
  // False, and nothing done, if it is anything else or the launch failed: fold() is to say why.
  bool try_fold(pybind11::handle x);

  // Expect nothing until the next fold().
  void forget() { expected_.forget(); }

 private:
  Expected expected_;
  CudaLaunch launch_ = {};
  cuda::Target target_ = {};
};

}  // namespace fmstats
