#include "cpu_fast_path.h"

#include <stdexcept>
#include <string>

#if defined(_OPENMP)
#include <omp.h>
#endif

#include "cpu/isa.h"

namespace py = pybind11;

namespace fmstats {
namespace {

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

CpuPlan::CpuPlan(int isa, int mode, std::uintptr_t state, i64 row, std::uintptr_t clock,
                 const py::tuple& requested, const py::tuple& float32_thresholds,
                 const py::tuple& float64_thresholds, py::object tensor_type, const py::object& api)
    : kernels_(&usable_isa(isa)),
      mode_(read_mode(mode)),
      target_{reinterpret_cast<i64*>(state), row, reinterpret_cast<i64*>(clock),
              read_requested(requested)},
      float32_(read_thresholds(float32_thresholds)),
      float64_(read_thresholds(float64_thresholds)),
      expected_(std::move(tensor_type), api, {dlpack::kCpu, 0}) {}

void CpuPlan::update(int dtype, std::uintptr_t data, const py::tuple& shape,
                     const py::tuple& strides, i64 channels, i64 channel_stride,
                     const py::tuple& dims, int threads) {
  expected_.forget();  // until all went well, nothing is expected
  view_ = view_of(dtype, channels, channel_stride, dims);
  view_.data = reinterpret_cast<const void*>(data);
  measure(threads);
  expected_.remember(view_.dtype, shape, strides);
}

bool CpuPlan::try_update(py::handle x) {
  view_.data = expected_.recognise(x);
  if (view_.data == nullptr) return false;
  measure(thread_count());
  return true;
}

bool CpuPlan::try_update(torch::Tensor x) {
  view_.data = expected_.recognise(x);
  if (view_.data == nullptr) return false;
  measure(thread_count());
  return true;
}

void CpuPlan::update_groups(int dtype, std::uintptr_t data, const py::tuple& shape,
                            const py::tuple& strides, i64 channels, i64 channel_stride,
                            const py::tuple& dims, int threads, std::uintptr_t numbers,
                            const py::tuple& number_strides, int groups) {
  expected_.forget();
  view_ = view_of(dtype, channels, channel_stride, dims);
  view_.data = reinterpret_cast<const void*>(data);
  groups_ = read_groups(view_, numbers, number_strides, groups);
  measure(threads, &groups_);
  expected_.remember(view_.dtype, shape, strides);
}

bool CpuPlan::try_update_groups(py::handle x, std::uintptr_t numbers) {
  view_.data = expected_.recognise(x);
  if (view_.data == nullptr) return false;
  groups_.numbers = reinterpret_cast<const unsigned char*>(numbers);
  measure(thread_count(), &groups_);
  return true;
}

void CpuPlan::measure(int threads, const Groups* groups) {
  const Thresholds& thresholds = view_.dtype == kFloat64 ? float64_ : float32_;
  accumulate(*kernels_, view_, groups, thresholds, mode_, target_, threads);
}

}  // namespace fmstats
