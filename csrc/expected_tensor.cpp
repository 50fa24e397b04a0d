#include "expected_tensor.h"

#include <cstring>
#include <stdexcept>
#include <string>

namespace py = pybind11;

namespace fmstats {
namespace {

// By DType: DLPack's type codes are 2 float, 4 bfloat, 10 float8_e4m3fn, 12 float8_e5m2.
constexpr dlpack::DataType kTypes[kDTypes] = {{2, 32, 1}, {2, 64, 1}, {2, 16, 1},
                                              {4, 16, 1}, {10, 8, 1}, {12, 8, 1}};

bool same(const std::vector<std::int64_t>& a, const std::int64_t* b) {
  return std::memcmp(a.data(), b, a.size() * sizeof(std::int64_t)) == 0;
}

std::vector<std::int64_t> read_sizes(const py::tuple& sizes) {
  std::vector<std::int64_t> read;
  for (const auto& size : sizes) read.push_back(size.cast<std::int64_t>());
  return read;
}

}  // namespace

const dlpack::ExchangeApi* exchange_api(const py::object& capsule) {
  if (!PyCapsule_IsValid(capsule.ptr(), dlpack::kExchangeApi)) return nullptr;
  const auto* table =
      static_cast<dlpack::ExchangeApi*>(PyCapsule_GetPointer(capsule.ptr(), dlpack::kExchangeApi));
  return table->version.major == 1 && table->tensor_from_py_object != nullptr ? table : nullptr;
}

Expected::Expected(py::object tensor_type, const py::object& api, dlpack::Device device)
    : tensor_type_(std::move(tensor_type)), api_(exchange_api(api)), device_(device) {}

void Expected::remember(DType dtype, const py::tuple& shape, const py::tuple& strides) {
  dtype_ = dtype;
  strides_ = read_sizes(strides);
  shape_ = read_sizes(shape);
}

const void* Expected::recognise(py::handle x) const {
  if (api_ == nullptr || shape_.empty()) return nullptr;
  if (reinterpret_cast<PyObject*>(Py_TYPE(x.ptr())) != tensor_type_.ptr()) return nullptr;
  // The view of a conjugate's imaginary part: its memory holds the numbers with the other sign.
  // Asked first, since torch lets other threads run meanwhile, which may expect something else
  // after it; from here on none does until the kernel has read x.
  static PyObject* const is_neg = PyUnicode_InternFromString("is_neg");
  const auto negative =
      py::reinterpret_steal<py::object>(PyObject_CallMethodNoArgs(x.ptr(), is_neg));
  if (negative.ptr() != Py_False) {
    PyErr_Clear();
    return nullptr;
  }
  if (shape_.empty()) return nullptr;
  dlpack::Tensor t = {};
  if (api_->tensor_from_py_object(x.ptr(), &t) != 0) {
    PyErr_Clear();  // not a tensor with memory of its own: the slow way will say what it is
    return nullptr;
  }
  if (t.device.type != device_.type || t.device.id != device_.id ||
      !same(t.dtype, kTypes[dtype_]) || t.ndim != static_cast<int>(shape_.size()) ||
      !same(shape_, t.shape) || !same(strides_, t.strides)) {
    return nullptr;
  }
  return static_cast<const char*>(t.data) + t.byte_offset;
}

const void* Expected::recognise(torch::Tensor x) const {
  const torch::Functions& f = torch::functions();
  std::int32_t dtype = 0, type = 0, index = 0;
  std::int64_t dims = 0, *sizes = nullptr, *strides = nullptr;
  void* data = nullptr;
  const bool told = f.get_dtype(x, &dtype) == 0 && f.get_device_type(x, &type) == 0 &&
                    f.get_device_index(x, &index) == 0 && f.get_dim(x, &dims) == 0 &&
                    f.get_sizes(x, &sizes) == 0 && f.get_strides(x, &strides) == 0 &&
                    f.get_data_ptr(x, &data) == 0;
  // The numbers of device types are DLPack's less one, for CPU and CUDA; a CPU has no index.
  const bool fits = told && !shape_.empty() && dtype == f.dtypes[dtype_]() &&
                    type + 1 == device_.type && (index < 0 ? 0 : index) == device_.id &&
                    dims == static_cast<std::int64_t>(shape_.size()) && same(shape_, sizes) &&
                    same(strides_, strides);
  return fits ? data : nullptr;
}

bool Expected::current_stream(void** stream) const {
  if (api_ == nullptr || api_->current_work_stream == nullptr) return false;
  if (api_->current_work_stream(device_.type, device_.id, stream) == 0) return true;
  PyErr_Clear();
  return false;
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

Groups read_groups(const View& view, std::uintptr_t numbers, const py::tuple& strides, int count) {
  if (strides.size() != static_cast<std::size_t>(view.dim_count)) {
    throw std::invalid_argument("the numbers of groups have a stride for each dim of the view");
  }
  Groups groups = {reinterpret_cast<const unsigned char*>(numbers), {}, count};
  for (std::size_t d = 0; d < strides.size(); ++d) groups.stride[d] = strides[d].cast<i64>();
  return groups;
}

Thresholds read_thresholds(const py::tuple& t) {
  return {t[0].cast<double>(), t[1].cast<double>(), t[2].cast<double>()};
}

Requested read_requested(const py::tuple& t) {
  const auto address = [&](int i) { return t[i].cast<std::uintptr_t>(); };
  const int resolution = t[4].cast<int>();
  if (resolution < 0 || resolution > kMostResolution) {
    throw std::invalid_argument("resolution " + std::to_string(resolution) + " is not known");
  }
  return {reinterpret_cast<double*>(address(0)), reinterpret_cast<double*>(address(1)),
          reinterpret_cast<i64*>(address(2)), t[3].cast<int>(), resolution};
}

Mode read_mode(int mode) {
  if (mode < 0 || mode >= kModes) {
    throw std::invalid_argument("mode " + std::to_string(mode) + " is not known");
  }
  return static_cast<Mode>(mode);
}

}  // namespace fmstats
