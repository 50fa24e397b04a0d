// fmstats._native: the C++ code as Python sees it. Pointers, sizes and strides arrive as integers;
// the Python side has checked device, dtype and layout and keeps the tensors alive.
#include <pybind11/pybind11.h>

#include <stdexcept>
#include <string>

#include "cpu/driver.h"
#include "cpu/isa.h"

namespace py = pybind11;
using namespace fmstats;

namespace {

py::list cpu_isas() {
  py::list rows;
  for (int i = 0; i < kIsaCount; ++i) {
    rows.append(py::make_tuple(kIsas[i]->isa, kIsas[i]->vector_bytes * 8, isa_usable(*kIsas[i])));
  }
  return rows;
}

void cpu_accumulate(int isa, int dtype, std::uintptr_t data, i64 channels, i64 channel_stride,
                    const py::tuple& dims, std::uintptr_t state, i64 row, double zero_tol,
                    double low, double high, int threads) {
  if (isa < 0 || isa >= kIsaCount || !isa_usable(*kIsas[isa])) {
    throw std::invalid_argument("instruction set " + std::to_string(isa) + " is not usable here");
  }
  if (dtype < 0 || dtype >= kDTypes) {
    throw std::invalid_argument("unknown dtype code " + std::to_string(dtype));
  }
  if (dims.empty() || dims.size() > kMaxDims) {
    throw std::invalid_argument("a view has 1 to 64 dims, not " + std::to_string(dims.size()));
  }
  View view;
  view.data = reinterpret_cast<const void*>(data);
  view.dtype = static_cast<DType>(dtype);
  view.channels = channels;
  view.channel_stride = channel_stride;
  view.dim_count = static_cast<int>(dims.size());
  for (int d = 0; d < view.dim_count; ++d) {
    const py::tuple dim = dims[d];
    view.size[d] = dim[0].cast<i64>();
    view.stride[d] = dim[1].cast<i64>();
  }
  accumulate(*kIsas[isa], view, {zero_tol, low, high}, reinterpret_cast<i64*>(state), row, threads);
}

}  // namespace

PYBIND11_MODULE(_native, m) {
  m.doc() = "Kernels of fmstats; see fmstats/backends/cpu.py for the checks made before each call.";
  m.attr("FIELDS") = py::make_tuple("count", "nan", "pos_inf", "neg_inf", "zeros", "sat_low",
                                    "sat_high", "mean", "m2", "min", "max");
  m.attr("CPU_DTYPES") =
      py::make_tuple("float32", "float64", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2");
  m.def("cpu_isas", &cpu_isas, "[(name, vector bits, usable here)], best first.");
  m.def("cpu_accumulate", &cpu_accumulate, "Fold a tensor into a state; see csrc/cpu/driver.h.");
}
