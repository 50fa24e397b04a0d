#include "torch_functions.h"

#include <dlfcn.h>

#include <stdexcept>

namespace fmstats::torch {
namespace {

#if defined(__APPLE__)
constexpr const char* kLibrary = "libtorch_cpu.dylib";
#else
constexpr const char* kLibrary = "libtorch_cpu.so";
#endif

template <class Function>
void find(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  if (function == nullptr) throw std::runtime_error("this torch has no " + std::string(name));
}

Functions find_all() {
  // Loaded already, by `import torch`: not a second time.
  void* library = dlopen(kLibrary, RTLD_NOW | RTLD_NOLOAD);
  if (library == nullptr) throw std::runtime_error(std::string(kLibrary) + " is not loaded");
  Functions f = {};
  find(library, "aoti_torch_library_init_impl", f.library_init_impl);
  find(library, "aoti_torch_library_impl", f.library_impl);
  find(library, "aoti_torch_call_dispatcher", f.call_dispatcher);
  find(library, "aoti_torch_delete_tensor_object", f.delete_tensor);
  find(library, "aoti_torch_get_data_ptr", f.get_data_ptr);
  find(library, "aoti_torch_get_dim", f.get_dim);
  find(library, "aoti_torch_get_sizes", f.get_sizes);
  find(library, "aoti_torch_get_strides", f.get_strides);
  find(library, "aoti_torch_get_dtype", f.get_dtype);
  find(library, "aoti_torch_get_device_type", f.get_device_type);
  find(library, "aoti_torch_get_device_index", f.get_device_index);
  const char* dtypes[] = {"float32",  "float64",       "float16",
                          "bfloat16", "float8_e4m3fn", "float8_e5m2"};
  for (int i = 0; i < 6; ++i) {
    find(library, (std::string("aoti_torch_dtype_") + dtypes[i]).c_str(), f.dtypes[i]);
  }
  f.delete_value =
      reinterpret_cast<Error (*)(Value*)>(dlsym(library, "torch_delete_stable_ivalue"));
  return f;
}

}  // namespace

const Functions& functions() {
  static const Functions found = find_all();
  return found;
}

}  // namespace fmstats::torch
