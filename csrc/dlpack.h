// The part of DLPack 1.x's C exchange API that reading a tensor takes (dmlc/dlpack, dlpack.h): a
// table of functions that a tensor type offers as `__dlpack_c_exchange_api__`, so that a tensor's
// pointer, shape and strides can be read without a Python call. Layout fixed by that ABI.
#pragma once

#include <cstdint>

namespace fmstats::dlpack {

struct Version {
  std::uint32_t major, minor;
};

struct Device {
  std::int32_t type;  // kCpu, ...
  std::int32_t id;
};
constexpr std::int32_t kCpu = 1;

struct DataType {
  std::uint8_t code;
  std::uint8_t bits;
  std::uint16_t lanes;
};

struct Tensor {
  void* data;
  Device device;
  std::int32_t ndim;
  DataType dtype;
  std::int64_t* shape;
  std::int64_t* strides;
  std::uint64_t byte_offset;
};

struct ExchangeApi {
  Version version;
  ExchangeApi* previous;
  void* managed_tensor_allocator;
  void* managed_tensor_from_py_object;
  void* managed_tensor_to_py_object;
  // Borrows the tensor's memory and sizes; 0 on success. May be null.
  int (*tensor_from_py_object)(void* object, Tensor* out);
  // The stream a device works on now; 0 on success. May be null.
  int (*current_work_stream)(std::int32_t device_type, std::int32_t device_id, void** out);
};
constexpr const char* kExchangeApi = "dlpack_exchange_api";  // the name of the capsule

}  // namespace fmstats::dlpack
