#include "driver.h"

#if !defined(_WIN32)
#include <dlfcn.h>
#endif

namespace fmstats::cuda {
namespace {

typedef int Result;  // CUresult; 0 is success

// The driver's functions, by the names that its library exports.
struct Driver {
  Result (*launch_kernel)(void* kernel, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                          unsigned block_x, unsigned block_y, unsigned block_z,
                          unsigned shared_bytes, void* stream, void** arguments, void** extra);
  Result (*get_current)(void** context);
  Result (*push_current)(void* context);
  Result (*pop_current)(void** context);
  Result (*is_capturing)(void* stream, int* status);
  Result (*error_name)(Result result, const char** name);
  Result (*error_string)(Result result, const char** text);
};

template <class Function>
void find(void* library, const char* name, Function& function) {
#if !defined(_WIN32)
  function = reinterpret_cast<Function>(dlsym(library, name));
#endif
  if (function == nullptr) throw DriverError("libcuda.so.1 has no " + std::string(name));
}

Driver open_driver() {
  void* library = nullptr;
#if !defined(_WIN32)
  library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
#endif
  if (library == nullptr) throw DriverError("the CUDA driver, libcuda.so.1, was not found");
  Driver driver = {};
  find(library, "cuLaunchKernel", driver.launch_kernel);
  find(library, "cuCtxGetCurrent", driver.get_current);
  find(library, "cuCtxPushCurrent_v2", driver.push_current);
  find(library, "cuCtxPopCurrent_v2", driver.pop_current);
  find(library, "cuStreamIsCapturing", driver.is_capturing);
  find(library, "cuGetErrorName", driver.error_name);
  find(library, "cuGetErrorString", driver.error_string);
  return driver;
}

const Driver& driver() {
  static const Driver opened = open_driver();
  return opened;
}

void check(Result result, const char* call) {
  if (result == 0) return;
  const char *name = nullptr, *text = nullptr;
  driver().error_name(result, &name);
  driver().error_string(result, &text);
  throw DriverError(std::string(call) +
                    " failed: " + (name != nullptr ? name : "error " + std::to_string(result)) +
                    " (" + (text != nullptr ? text : "no description") + ")");
}

// A context made current while it lives, where it was not.
class Current {
 public:
  explicit Current(void* context) {
    void* current = nullptr;
    check(driver().get_current(&current), "cuCtxGetCurrent");
    if (current == context) return;
    check(driver().push_current(context), "cuCtxPushCurrent");
    pushed_ = true;
  }
  ~Current() {
    void* popped = nullptr;
    if (pushed_) driver().pop_current(&popped);
  }
  Current(const Current&) = delete;
  Current& operator=(const Current&) = delete;

 private:
  bool pushed_ = false;
};

// In the current context.
void launch_here(const Target& target, unsigned grid_x, unsigned grid_y, unsigned block,
                 void* args) {
  void* arguments[] = {args};
  check(driver().launch_kernel(target.kernel, grid_x, grid_y, 1, block, 1, 1, 0, target.stream,
                               arguments, nullptr),
        "cuLaunchKernel");
}

}  // namespace

void check_driver() {
  driver();
}

void launch(const Target& target, unsigned grid_x, unsigned grid_y, unsigned block, void* args) {
  const Current current(target.context);
  launch_here(target, grid_x, grid_y, block, args);
}

bool launch_eagerly(const Target& target, unsigned grid_x, unsigned grid_y, unsigned block,
                    void* args) {
  const Current current(target.context);
  int status = 0;  // CU_STREAM_CAPTURE_STATUS_NONE
  if (driver().is_capturing(target.stream, &status) != 0 || status != 0) return false;
  launch_here(target, grid_x, grid_y, block, args);
  return true;
}

}  // namespace fmstats::cuda
