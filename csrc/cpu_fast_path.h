// A layer's way into the CPU kernels: a tensor as the last one is measured without a Python call in
// between.
#pragma once

#include "cpu/driver.h"
#include "expected_tensor.h"

namespace fmstats {

class CpuPlan {
 public:
  // thresholds: exact in float32 and for float64; mode: of the comparisons that both need.
  CpuPlan(int isa, int mode, std::uintptr_t state, i64 row, std::uintptr_t clock,
          const pybind11::tuple& requested, const pybind11::tuple& float32_thresholds,
          const pybind11::tuple& float64_thresholds, pybind11::object tensor_type,
          const pybind11::object& api);

  // Update the state with a tensor, and expect tensors of its dtype, sizes and strides from now on.
  void update(int dtype, std::uintptr_t data, const pybind11::tuple& shape,
              const pybind11::tuple& strides, i64 channels, i64 channel_stride,
              const pybind11::tuple& dims, int threads);

  // Update with x if it is a tensor as the last one; else return false, with nothing done.
  bool try_update(pybind11::handle x);
  bool try_update(torch::Tensor x);

  // The same for the groups of positions; a plan is for tensors with them or without. The numbers
  // of these lie as those of the last update.
  void update_groups(int dtype, std::uintptr_t data, const pybind11::tuple& shape,
                     const pybind11::tuple& strides, i64 channels, i64 channel_stride,
                     const pybind11::tuple& dims, int threads, std::uintptr_t numbers,
                     const pybind11::tuple& number_strides, int groups);
  bool try_update_groups(pybind11::handle x, std::uintptr_t numbers);

 private:
  void measure(int threads, const Groups* groups = nullptr);

  const Kernels* kernels_;
  Mode mode_;
  Destination target_;
  Thresholds float32_, float64_;
  Expected expected_;
  View view_ = {};
  Groups groups_ = {};
};

// The instruction set of this index, if this processor has it; throws std::invalid_argument.
const Kernels& usable_isa(int isa);

}  // namespace fmstats
