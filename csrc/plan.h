// A layer's way into the kernels: what its next output will most likely look like, checked and
// folded without a Python call in between.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <vector>

#include "cpu/job.h"
#include "dlpack.h"

namespace fmstats {

class CpuPlan {
 public:
  // thresholds: (zero_tol, low, high), exact in float32 and for float64. api: the capsule of
  // tensor_type's exchange API, or None: then try_fold() always declines.
  CpuPlan(int isa, std::uintptr_t state, i64 row, const pybind11::tuple& float32_thresholds,
          const pybind11::tuple& float64_thresholds, pybind11::object tensor_type,
          const pybind11::object& api);

  // Fold a tensor, and expect tensors of its dtype, sizes and strides from now on. dims: (size,
  // stride) of the positions, see View.
  void fold(int dtype, std::uintptr_t data, const pybind11::tuple& shape,
            const pybind11::tuple& strides, i64 channels, i64 channel_stride,
            const pybind11::tuple& dims, int threads);

  // Fold x if it is a tensor as the last one; false, and nothing done, if it is anything else.
  bool try_fold(pybind11::handle x);

 private:
  const Kernels* kernels_;
  i64* state_;
  i64 row_;
  Thresholds float32_, float64_;
  pybind11::object tensor_type_;
  const dlpack::ExchangeApi* api_ = nullptr;
  View view_ = {};
  dlpack::DataType dtype_ = {};
  std::vector<std::int64_t> shape_, strides_;
};

// The instruction set of this index, if this processor has it; throws std::invalid_argument.
const Kernels& usable_isa(int isa);

// Fill a view but for its data pointer; throws std::invalid_argument.
View view_of(int dtype, i64 channels, i64 channel_stride, const pybind11::tuple& dims);

}  // namespace fmstats
