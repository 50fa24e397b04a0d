#include "plan.h"

#include <cstring>
#include <stdexcept>
#include <string>

#if defined(_OPENMP)
#include <omp.h>
#endif

#include "cpu/driver.h"
#include "cpu/isa.h"

namespace py = pybind11;

namespace fmstats {
namespace {

// By DType: DLPack's type codes are 2 float, 4 bfloat, 10 float8_e4m3fn, 12 float8_e5m2.
constexpr dlpack::DataType kTypes[kDTypes] = {{2, 32, 1}, {2, 64, 1}, {2, 16, 1},
                                              {4, 16, 1}, {10, 8, 1}, {12, 8, 1}};

bool same(dlpack::DataType a, dlpack::DataType b) {
  return a.code == b.code && a.bits == b.bits && a.lanes == b.lanes;
}

bool same(const std::vector<std::int64_t>& a, const std::int64_t* b) {
  return std::memcmp(a.data(), b, a.size() * sizeof(std::int64_t)) == 0;
}

Thresholds read_thresholds(const py::tuple& t) {
  return {t[0].cast<double>(), t[1].cast<double>(), t[2].cast<double>()};
}

std::vector<std::int64_t> read_sizes(const py::tuple& sizes) {
  std::vector<std::int64_t> read;
  for (const auto& size : sizes) read.push_back(size.cast<std::int64_t>());
  return read;
}

// torch.set_num_threads sets this too: one OpenMP runtime serves both.
int thread_count() {
#if defined(_OPENMP)
  return omp_get_max_threads();
#else
  return 1;
#endif
}

}  // namespace

const Kernels& usable_isa(int isa) {
  if (isa < 0 || isa >= kIsaCount || !isa_usable(*kIsas[isa])) {
    throw std::invalid_argument("instruction set " + std::to_string(isa) + " is not usable here");
  }
  return *kIsas[isa];
}

View view_of(int dtype, i64 channels, i64 channel_stride, const py::tuple& dims) {
  if (dtype < 0 || dtype >= kDTypes) {
    throw std::invalid_argument("unknown dtype code " + std::to_string(dtype));
  }
  if (dims.empty() || dims.size() > kMaxDims) {
    throw std::invalid_argument("a view has 1 to 64 dims, not " + std::to_string(dims.size()));
  }
  View view = {};
  view.dtype = static_cast<DType>(dtype);
  view.channels = channels;
  view.channel_stride = channel_stride;
  view.dim_count = static_cast<int>(dims.size());
  for (int d = 0; d < view.dim_count; ++d) {
    const py::tuple dim = dims[d];
    view.size[d] = dim[0].cast<i64>();
    view.stride[d] = dim[1].cast<i64>();
  }
  return view;
}

CpuPlan::CpuPlan(int isa, std::uintptr_t state, i64 row, const py::tuple& float32_thresholds,
                 const py::tuple& float64_thresholds, py::object tensor_type, const py::object& api)
    : kernels_(&usable_isa(isa)),
      state_(reinterpret_cast<i64*>(state)),
      row_(row),
      float32_(read_thresholds(float32_thresholds)),
      float64_(read_thresholds(float64_thresholds)),
      tensor_type_(std::move(tensor_type)) {
  if (!PyCapsule_IsValid(api.ptr(), dlpack::kExchangeApi)) return;
  const auto* table =
      static_cast<dlpack::ExchangeApi*>(PyCapsule_GetPointer(api.ptr(), dlpack::kExchangeApi));
  if (table->version.major == 1 && table->tensor_from_py_object != nullptr) api_ = table;
}

void CpuPlan::fold(int dtype, std::uintptr_t data, const py::tuple& shape, const py::tuple& strides,
                   i64 channels, i64 channel_stride, const py::tuple& dims, int threads) {
  shape_.clear();  // until all went well, nothing is expected
  view_ = view_of(dtype, channels, channel_stride, dims);
  view_.data = reinterpret_cast<const void*>(data);
  accumulate(*kernels_, view_, view_.dtype == kFloat64 ? float64_ : float32_, state_, row_,
             threads);
  dtype_ = kTypes[dtype];
  strides_ = read_sizes(strides);
  shape_ = read_sizes(shape);
}

bool CpuPlan::try_fold(py::handle x) {
  if (api_ == nullptr || shape_.empty()) return false;
  if (reinterpret_cast<PyObject*>(Py_TYPE(x.ptr())) != tensor_type_.ptr()) return false;
  dlpack::Tensor t = {};
  if (api_->tensor_from_py_object(x.ptr(), &t) != 0) {
    PyErr_Clear();  // not a tensor with memory of its own: the slow way will say what it is
    return false;
  }
  if (t.device.type != dlpack::kCpu || !same(t.dtype, dtype_) ||
      t.ndim != static_cast<int>(shape_.size()) || !same(shape_, t.shape) ||
      !same(strides_, t.strides)) {
    return false;
  }
  view_.data = static_cast<const char*>(t.data) + t.byte_offset;
  accumulate(*kernels_, view_, view_.dtype == kFloat64 ? float64_ : float32_, state_, row_,
             thread_count());
  return true;
}

}  // namespace fmstats
