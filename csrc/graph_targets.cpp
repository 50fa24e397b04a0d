#include "graph_targets.h"

#include <stdexcept>
#include <string>
#include <unordered_map>
#include <utility>

#include "cpu_fast_path.h"
#include "cuda_fast_path.h"
#include "direct_call.h"
#include "torch_functions.h"

namespace py = pybind11;

namespace fmstats {
namespace {

struct Target {
  py::object plan;    // one of these
  py::object memory;  // that it fills
  CpuPlan* cpu;
  CudaPlan* cuda;
  const i64* open;  // null of what measures no more
  i64 calls;
};

// The interpreter lock guards it. Never destroyed: it holds objects of an interpreter that ends
// before it would be.
std::unordered_map<i64, Target>& targets() {
  static auto* const all = new std::unordered_map<i64, Target>;
  return *all;
}

PyObject* in_backward = nullptr;

Target* find_target(i64 number) {
  const auto found = targets().find(number);
  return found == targets().end() ? nullptr : &found->second;
}

i64* words_of(const torch::Functions& f, torch::Tensor tensor) {
  void* data = nullptr;
  return f.get_data_ptr(tensor, &data) == 0 ? static_cast<i64*>(data) : nullptr;
}

i64* words_of(const dlpack::ExchangeApi& api, PyObject* tensor) {
  dlpack::Tensor t = {};
  if (api.tensor_from_py_object(tensor, &t) != 0) {
    PyErr_Clear();
    return nullptr;
  }
  return reinterpret_cast<i64*>(static_cast<char*>(t.data) + t.byte_offset);
}

// Whether nothing is left to be done: `update` may have done it.
template <class Update>
bool observed(i64 number, Update update) {
  Target* const target = find_target(number);
  if (target == nullptr) return false;
  if (target->open == nullptr || *target->open == 0 || is_in_backward(in_backward)) return true;
  // Torch lets other threads run while it looks at a tensor, which may close what measures it.
  const py::object plan = target->plan, memory = target->memory;
  const bool done = update(*target);
  target->calls += done ? 1 : 0;
  return done;
}

// The same of a tensor that goes into memory of the graph, with tensors as `Source` has them.
template <class Source, class Tensor, class Given>
bool observed(const Source& source, Tensor x, Given state, Given clock, i64 number) {
  return observed(number, [&](const Target& target) {
    if (target.cuda == nullptr) return false;
    i64 *const words = words_of(source, state), *const time = words_of(source, clock);
    return words != nullptr && time != nullptr && target.cuda->try_update(x, words, time);
  });
}

// The same of a tensor that goes into the memory of its row.
template <class Tensor>
bool observed_on_host(Tensor x, i64 number) {
  return observed(number, [&](const Target& target) {
    return target.cpu != nullptr && target.cpu->try_update(x);
  });
}

void release(const torch::Functions& f, torch::Value tensor) {
  f.delete_tensor(reinterpret_cast<torch::Tensor>(tensor));
}

void release_optional(const torch::Functions& f, torch::Value value) {
  auto* const held = reinterpret_cast<torch::Value*>(value);
  if (held == nullptr) return;
  if (f.delete_value != nullptr) {
    f.delete_value(held);
  } else {
    delete held;
  }
}

torch::Tensor tensor_of(torch::Value value) {
  return reinterpret_cast<torch::Tensor>(value);
}

bool is_observed(const torch::Functions& f, torch::Value x, torch::Value state, torch::Value clock,
                 i64 number) {
  const py::gil_scoped_acquire lock;
  return observed(f, tensor_of(x), tensor_of(state), tensor_of(clock), number);
}

bool is_observed_on_host(torch::Value x, i64 number) {
  const py::gil_scoped_acquire lock;
  return observed_on_host(tensor_of(x), number);
}

// Have torch call an operation of Python's, which takes the tensors among its arguments.
void call_python(const torch::Functions& f, const char* operation, torch::Value* arguments) {
  if (f.call_dispatcher(operation, "", arguments) != 0) {
    throw std::runtime_error(std::string(operation) + " failed: see the error above");
  }
}

// observe(Tensor x, Tensor(a!) state, Tensor(b!) clock, int target, int channel_dim,
//         float zero_tol, float? low, float? high) -> ()
void observe(torch::Value* stack, std::uint64_t, std::uint64_t) {
  const torch::Functions& f = torch::functions();
  const torch::Value x = stack[0], state = stack[1], clock = stack[2], number = stack[3];
  release_optional(f, stack[6]);
  release_optional(f, stack[7]);
  if (is_observed(f, x, state, clock, static_cast<i64>(number))) {
    for (const torch::Value tensor : {x, state, clock}) release(f, tensor);
    return;
  }
  torch::Value rest[] = {x, state, clock, number};
  call_python(f, "fmstats::observe_in_python", rest);
}

// observe_on_host(Tensor x, Tensor(a!) op_token, int target) -> ()
void observe_on_host(torch::Value* stack, std::uint64_t, std::uint64_t) {
  const torch::Functions& f = torch::functions();
  if (is_observed_on_host(stack[0], static_cast<i64>(stack[2]))) {
    for (const torch::Value tensor : {stack[0], stack[1]}) release(f, tensor);
    return;
  }
  torch::Value rest[] = {stack[0], stack[1], stack[2]};
  call_python(f, "fmstats::observe_on_host_in_python", rest);
}

// observe(x, state, clock, target, ...)
struct Observe {
  static constexpr const char* kName = "observe_directly";
  py::object function;
  const dlpack::ExchangeApi* api;

  bool done(PyObject* const* args, Py_ssize_t count) const {
    const i64 number = integer_at(args, count, 3);
    return number != -1 && observed(*api, py::handle(args[0]), args[1], args[2], number);
  }
};

// observe_on_host(x, op_token, target)
struct ObserveOnHost {
  static constexpr const char* kName = "observe_on_host_directly";
  py::object function;

  bool done(PyObject* const* args, Py_ssize_t count) const {
    const i64 number = integer_at(args, count, 2);
    return number != -1 && observed_on_host(py::handle(args[0]), number);
  }
};

}  // namespace

py::object make_observe_directly(py::object operation, const py::object& api) {
  const dlpack::ExchangeApi* const table = exchange_api(api);
  if (table == nullptr) return operation;
  return make_direct(Observe{std::move(operation), table});
}

py::object make_observe_on_host_directly(py::object operation, const py::object& api) {
  if (exchange_api(api) == nullptr) return operation;
  return make_direct(ObserveOnHost{std::move(operation)});
}

void register_observe(const std::string& device_type, py::object asks_for_backward) {
  const torch::Functions& f = torch::functions();
  in_backward = asks_for_backward.release().ptr();
  torch::Library library = nullptr;  // it lives as long as the process
  if (f.library_init_impl("fmstats", device_type.c_str(), __FILE__, __LINE__, &library) != 0 ||
      f.library_impl(library, "observe", &observe) != 0 ||
      f.library_impl(library, "observe_on_host", &observe_on_host) != 0) {
    throw std::runtime_error("torch does not take a kernel of fmstats::observe for " + device_type);
  }
}

void add_graph_target(i64 number, py::object plan, py::object memory, std::uintptr_t open) {
  Target target = {};
  if (py::isinstance<CpuPlan>(plan)) {
    target.cpu = plan.cast<CpuPlan*>();
  } else {
    target.cuda = plan.cast<CudaPlan*>();
  }
  target.plan = std::move(plan);
  target.memory = std::move(memory);
  target.open = reinterpret_cast<const i64*>(open);
  targets()[number] = std::move(target);
}

void remove_graph_target(i64 number) {
  // Its number stays, with what it has counted: graphs go on calling it, for nothing.
  Target& target = targets()[number];
  target.open = nullptr;
  target.plan = py::none();
  target.memory = py::none();
}

i64 take_graph_calls(i64 number) {
  Target* const target = find_target(number);
  return target == nullptr ? 0 : std::exchange(target->calls, i64{0});
}

}  // namespace fmstats
