// fmstats._native: the C++ code as Python sees it. Pointers, sizes and strides arrive as integers;
// the Python side has checked device, dtype and layout and keeps the tensors alive.
#include <pybind11/pybind11.h>

#include "cpu/driver.h"
#include "cpu/isa.h"
#include "plan.h"

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
  View view = view_of(dtype, channels, channel_stride, dims);
  view.data = reinterpret_cast<const void*>(data);
  accumulate(usable_isa(isa), view, {zero_tol, low, high}, reinterpret_cast<i64*>(state), row,
             threads);
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
  py::class_<CpuPlan>(m, "CpuPlan", "A layer's way into the kernels; see csrc/plan.h.")
      .def(py::init<int, std::uintptr_t, i64, py::tuple, py::tuple, py::object, py::object>())
      .def("fold", &CpuPlan::fold)
      .def("try_fold", &CpuPlan::try_fold);
}
