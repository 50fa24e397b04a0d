// What a layer's next output will most likely look like: its last one. A tensor that does is read
// without a Python call, through DLPack's C exchange API (torch from 2.10).
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <vector>

#include "dlpack.h"
#include "parts.h"
#include "requested.h"
#include "torch_functions.h"
#include "view.h"

namespace fmstats {

// The table in a capsule, or null where there is none that serves: None, or another version.
const dlpack::ExchangeApi* exchange_api(const pybind11::object& capsule);

inline bool same(dlpack::DataType a, dlpack::DataType b) {
  return a.code == b.code && a.bits == b.bits && a.lanes == b.lanes;
}

class Expected {
 public:
  // api: the capsule of tensor_type's exchange API, or None: then nothing is ever recognised.
  Expected(pybind11::object tensor_type, const pybind11::object& api, dlpack::Device device);

  // Expect tensors as this one from now on.
  void remember(DType dtype, const pybind11::tuple& shape, const pybind11::tuple& strides);
  void forget() { shape_.clear(); }

  // The address of x's first element if x is a tensor as the last one; null if it is anything else.
  const void* recognise(pybind11::handle x) const;

  // The same of a tensor as an operation of torch is handed it, which is of no subclass and holds
  // the numbers of its memory.
  const void* recognise(torch::Tensor x) const;

  // The stream that torch works on now. False if it cannot be told.
  bool current_stream(void** stream) const;

 private:
  pybind11::object tensor_type_;
  const dlpack::ExchangeApi* api_;
  dlpack::Device device_;
  DType dtype_ = kFloat32;
  std::vector<std::int64_t> shape_, strides_;
};

// Fill a view but for its data pointer; throws std::invalid_argument. dims: (size, stride) of the
// positions, see View.
View view_of(int dtype, i64 channels, i64 channel_stride, const pybind11::tuple& dims);

// The groups of positions of a view; throws std::invalid_argument where it has other dims than
// these strides.
Groups read_groups(const View& view, std::uintptr_t numbers, const pybind11::tuple& strides,
                   int count);

// (sum_abs, m3, bins, per_channel, resolution), the first three as addresses, 0 where not asked
// for.
Requested read_requested(const pybind11::tuple& requested);

// (zero_tol, low, high)
Thresholds read_thresholds(const pybind11::tuple& thresholds);

// The mode of this number; throws std::invalid_argument.
Mode read_mode(int mode);

}  // namespace fmstats
