// The functions of torch's stable C interface that fmstats uses, found in torch's library at run
// time: fmstats is built without torch, and fits every version.
#pragma once

#include <cstdint>
#include <string>

namespace fmstats::torch {

typedef std::uint64_t Value;            // StableIValue: an argument of an operation, by its bits
typedef struct OpaqueTensor* Tensor;    // AtenTensorHandle
typedef struct OpaqueLibrary* Library;  // TorchLibraryHandle
typedef std::int32_t Error;             // 0 is success
typedef void (*Kernel)(Value* stack, std::uint64_t arguments, std::uint64_t results);

struct Functions {
  Error (*library_init_impl)(const char* name, const char* dispatch_key, const char* file,
                             std::uint32_t line, Library* library);
  Error (*library_impl)(Library library, const char* operation, Kernel kernel);
  // Takes the tensors among its arguments for its own.
  Error (*call_dispatcher)(const char* operation, const char* overload, Value* stack);
  Error (*delete_tensor)(Tensor x);
  Error (*get_data_ptr)(Tensor x, void** data);
  Error (*get_dim)(Tensor x, std::int64_t* dim);
  Error (*get_sizes)(Tensor x, std::int64_t** sizes);
  Error (*get_strides)(Tensor x, std::int64_t** strides);
  Error (*get_dtype)(Tensor x, std::int32_t* dtype);
  Error (*get_device_type)(Tensor x, std::int32_t* type);
  Error (*get_device_index)(Tensor x, std::int32_t* index);
  std::int32_t (*dtypes[6])();  // torch's number of each DType
  // Before torch 2.13 there is none, and `delete` is as good.
  Error (*delete_value)(Value* value);
};

// Throws std::runtime_error where this torch lacks one of them, or there is no torch.
const Functions& functions();

}  // namespace fmstats::torch
