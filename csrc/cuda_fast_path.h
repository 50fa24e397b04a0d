// A layer's way into the CUDA kernels: a tensor as the last one goes from the hook to the driver
// without a Python call in between.
#pragma once

#include "cuda/driver.h"
#include "cuda/planner.h"
#include "expected_tensor.h"

namespace fmstats {

class CudaPlan {
 public:
  CudaPlan(pybind11::object tensor_type, const pybind11::object& api, int device_type,
           int device_id);

  // Run a launch whose args are complete, and expect tensors of its dtype, of these sizes and
  // strides and of its alignment, on the target's stream, from now on. Throws cuda::DriverError;
  // then nothing was launched.
  void update(const CudaLaunch& launch, const cuda::Target& target, const pybind11::tuple& shape,
              const pybind11::tuple& strides);

  // Launch on x if it is a tensor as the last one, on the same stream, and no graph is captured.
  // False, and nothing done, if it is anything else or the launch failed: update() is to say why.
  bool try_update(pybind11::handle x);
  // The same in a graph, which may have a copy of the state and the clock to be changed.
  bool try_update(torch::Tensor x, i64* state, i64* clock);
  bool try_update(pybind11::handle x, i64* state, i64* clock);

  // Expect nothing until the next update().
  void forget() { expected_.forget(); }

 private:
  bool launch_found(const void* data, i64* state, i64* clock);

  Expected expected_;
  CudaLaunch launch_ = {};
  cuda::Target target_ = {};
};

// The same of tensors whose positions are in groups.
class CudaGroupPlan {
 public:
  CudaGroupPlan(pybind11::object tensor_type, const pybind11::object& api, int device_type,
                int device_id);

  // As CudaPlan; the args are those of the launch, completed.
  void update(const GroupedLaunch& launch, const GroupedArgs& args, const cuda::Target& target,
              const pybind11::tuple& shape, const pybind11::tuple& strides);

  // As CudaPlan, with the numbers at this address, laid out and aligned as those of the last one.
  bool try_update(pybind11::handle x, std::uintptr_t numbers);

  void forget() { expected_.forget(); }

 private:
  Expected expected_;
  GroupedLaunch launch_ = {};
  GroupedArgs args_ = {};
  cuda::Target target_ = {};
};

}  // namespace fmstats
