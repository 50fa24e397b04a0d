// The way of `fmstats::fold` into its CUDA kernel (cuda/graph_fold.cuh): all partials are read
// through DLPack's C exchange API, so that a graph of hundreds costs no Python call for each.
#pragma once

#include <pybind11/pybind11.h>

#include "cuda/driver.h"
#include "cuda/fold_args.h"
#include "dlpack.h"
#include "expected_tensor.h"

namespace fmstats {

class CudaFold {
 public:
  // On one GPU, by a kernel that is loaded there. api: the capsule of tensor_type's exchange API.
  // Throws std::invalid_argument if it cannot be used.
  CudaFold(pybind11::object tensor_type, const pybind11::object& api, int device_type,
           int device_id, std::uintptr_t kernel, std::uintptr_t context);

  // Launch on a stream what merges the partials of layers into their states; see Backend.fold.
  // Throws std::invalid_argument where they do not fit each other: then nothing was launched; and
  // cuda::DriverError.
  void run(const pybind11::list& partials, const pybind11::list& memories, pybind11::handle clock,
           const pybind11::list& positions, const pybind11::list& modes,
           std::uintptr_t stream) const;

 private:
  pybind11::object tensor_type_;
  const dlpack::ExchangeApi* api_;
  dlpack::Device device_;
  void *kernel_, *context_;
};

}  // namespace fmstats
