// fmstats._native: the C++ code as Python sees it. Pointers, sizes and strides arrive as integers;
// the Python side has checked device, dtype and layout and keeps the tensors alive. Functions of
// many of these take them by keyword alone, so that no two can be confused by their places.
#include <pybind11/pybind11.h>

#include "cpu/driver.h"
#include "cpu/isa.h"
#include "cpu_fast_path.h"
#include "cuda_fast_path.h"
#include "cuda_fold.h"
#include "graph_passes.h"
#include "graph_targets.h"

namespace py = pybind11;
using namespace fmstats;
using namespace py::literals;

namespace {

py::list cpu_isas() {
  py::list rows;
  for (int i = 0; i < kIsaCount; ++i) {
    rows.append(py::make_tuple(kIsas[i]->isa, kIsas[i]->vector_bytes * 8, isa_usable(*kIsas[i])));
  }
  return rows;
}

void cpu_accumulate(int isa, int dtype, std::uintptr_t data, i64 channels, i64 channel_stride,
                    const py::tuple& dims, std::uintptr_t numbers, const py::tuple& number_strides,
                    int groups, std::uintptr_t state, i64 row, std::uintptr_t clock,
                    const py::tuple& requested, const py::tuple& thresholds, int mode,
                    int threads) {
  View view = view_of(dtype, channels, channel_stride, dims);
  view.data = reinterpret_cast<const void*>(data);
  Groups beside = {};
  if (numbers != 0) beside = read_groups(view, numbers, number_strides, groups);
  const Destination target = {reinterpret_cast<i64*>(state), row, reinterpret_cast<i64*>(clock),
                              read_requested(requested)};
  accumulate(usable_isa(isa), view, numbers == 0 ? nullptr : &beside, read_thresholds(thresholds),
             read_mode(mode), target, threads);
}

// (sums, scope, resolution), as fmstats/backends/cuda/asked.py has them.
Asked read_asked(const py::tuple& asked) {
  const int scope = asked[1].cast<int>(), resolution = asked[2].cast<int>();
  if (scope < 0 || scope >= kScopes || resolution < 0 || resolution > kMostResolution) {
    throw std::invalid_argument("no kernel has such histograms");
  }
  return {asked[0].cast<bool>(), static_cast<Scope>(scope), resolution};
}

CudaLaunch cuda_launch(int dtype, std::uintptr_t data, i64 channels, i64 channel_stride,
                       const py::tuple& dims, int multiprocessors, const py::tuple& asked) {
  View view = view_of(dtype, channels, channel_stride, dims);
  view.data = reinterpret_cast<const void*>(data);
  return plan_launch(view, multiprocessors, read_asked(asked));
}

GroupedLaunch cuda_grouped_launch(int dtype, std::uintptr_t data, i64 channels, i64 channel_stride,
                                  const py::tuple& dims, std::uintptr_t numbers,
                                  const py::tuple& number_strides, int groups, int multiprocessors,
                                  const py::tuple& asked) {
  View view = view_of(dtype, channels, channel_stride, dims);
  view.data = reinterpret_cast<const void*>(data);
  return plan_grouped_launch(view, read_groups(view, numbers, number_strides, groups),
                             multiprocessors, read_asked(asked));
}

// Complete the arguments of a launch with what it reads and writes beside the tensor. requested:
// addresses of the fields of the same name, 0 for what is not measured.
void complete(CudaArgs& args, const py::tuple& thresholds, const py::tuple& limits,
              std::uintptr_t state, i64 row, const py::tuple& requested, std::uintptr_t clock,
              std::uintptr_t replays, std::uintptr_t parts, std::uintptr_t tickets) {
  args.thresholds = read_thresholds(thresholds);
  for (int i = 0; i < 3; ++i) args.limits[i] = limits[i].cast<i64>();
  args.state = reinterpret_cast<i64*>(state);
  args.row = row;
  args.requested.sum_abs = reinterpret_cast<double*>(requested[0].cast<std::uintptr_t>());
  args.requested.m3 = reinterpret_cast<double*>(requested[1].cast<std::uintptr_t>());
  args.requested.bins = reinterpret_cast<i64*>(requested[2].cast<std::uintptr_t>());
  args.clock = reinterpret_cast<i64*>(clock);
  args.replays = reinterpret_cast<i64*>(replays);
  args.parts = reinterpret_cast<i64*>(parts);
  args.tickets = reinterpret_cast<unsigned*>(tickets);
}

cuda::Target target_of(std::uintptr_t kernel, std::uintptr_t context, std::uintptr_t stream) {
  return {reinterpret_cast<void*>(kernel), reinterpret_cast<void*>(context),
          reinterpret_cast<void*>(stream)};
}

void cuda_update(CudaPlan& plan, CudaLaunch launch, const py::tuple& shape,
                 const py::tuple& strides, const py::tuple& thresholds, const py::tuple& limits,
                 std::uintptr_t state, i64 row, const py::tuple& requested, std::uintptr_t clock,
                 std::uintptr_t replays, std::uintptr_t parts, std::uintptr_t tickets,
                 std::uintptr_t kernel, std::uintptr_t context, std::uintptr_t stream) {
  complete(launch.args, thresholds, limits, state, row, requested, clock, replays, parts, tickets);
  plan.update(launch, target_of(kernel, context, stream), shape, strides);
}

void cuda_update_groups(CudaGroupPlan& plan, const GroupedLaunch& launch, const py::tuple& shape,
                        const py::tuple& strides, const py::tuple& thresholds,
                        const py::tuple& limits, std::uintptr_t state, i64 row,
                        const py::tuple& requested, std::uintptr_t clock, std::uintptr_t replays,
                        std::uintptr_t parts, std::uintptr_t tickets, std::uintptr_t kernel,
                        std::uintptr_t context, std::uintptr_t stream) {
  GroupedArgs args = {launch.args, launch.numbers};
  complete(args, thresholds, limits, state, row, requested, clock, replays, parts, tickets);
  plan.update(launch, args, target_of(kernel, context, stream), shape, strides);
}

// Have the device begin a pass.
void cuda_begin_pass(std::uintptr_t clock, std::uintptr_t kernel, std::uintptr_t context,
                     std::uintptr_t stream) {
  CudaArgs args = {};
  args.clock = reinterpret_cast<i64*>(clock);
  cuda::launch(target_of(kernel, context, stream), 1, 1, kWarp, &args);
}

void add_cpu(py::module_& m) {
  m.def("cpu_isas", &cpu_isas, "[(name, vector bits, usable here)], best first.");
  m.def("cpu_accumulate", &cpu_accumulate, py::kw_only(), "isa"_a, "dtype"_a, "data"_a,
        "channels"_a, "channel_stride"_a, "dims"_a, "numbers"_a, "number_strides"_a, "groups"_a,
        "state"_a, "row"_a, "clock"_a, "requested"_a, "thresholds"_a, "mode"_a, "threads"_a,
        "Update a state with a tensor; see csrc/cpu/driver.h.");
  py::class_<CpuPlan>(m, "CpuPlan", "A layer's way into the kernels; see csrc/cpu_fast_path.h.")
      .def(py::init<int, int, std::uintptr_t, i64, std::uintptr_t, py::tuple, py::tuple, py::tuple,
                    py::object, py::object>(),
           py::kw_only(), "isa"_a, "mode"_a, "state"_a, "row"_a, "clock"_a, "requested"_a,
           "float32_thresholds"_a, "float64_thresholds"_a, "tensor_type"_a, "exchange_api"_a)
      // By place, for torch before 2.10, where every tensor comes here: names cost a microsecond.
      .def("update", &CpuPlan::update)
      .def("try_update", py::overload_cast<py::handle>(&CpuPlan::try_update))
      .def("update_groups", &CpuPlan::update_groups)
      .def("try_update_groups", &CpuPlan::try_update_groups);
}

void add_cuda(py::module_& m) {
  py::register_exception<cuda::DriverError>(m, "CudaDriverError", PyExc_RuntimeError);
  const py::tuple nothing = py::make_tuple(false, 0, 0);
  py::class_<CudaLaunch>(m, "CudaLaunch", "How a tensor is read; see csrc/cuda/planner.h.")
      .def(py::init(&cuda_launch), "dtype"_a, "data"_a, "channels"_a, "channel_stride"_a, "dims"_a,
           "multiprocessors"_a, "asked"_a = nothing)
      .def_property_readonly("kernel", [](const CudaLaunch& l) { return kernel_name(l); })
      .def_property_readonly("grid",
                             [](const CudaLaunch& l) { return py::make_tuple(l.grid_x, l.grid_y); })
      .def_readonly("block", &CudaLaunch::block)
      .def_readonly("parts_words", &CudaLaunch::parts_words)
      .def_readonly("tickets", &CudaLaunch::tickets)
      .def_property_readonly("args_bytes", [](const CudaLaunch&) { return sizeof(CudaArgs); });
  py::class_<GroupedLaunch, CudaLaunch>(m, "GroupedLaunch", "The same of positions in groups.")
      .def(py::init(&cuda_grouped_launch), py::kw_only(), "dtype"_a, "data"_a, "channels"_a,
           "channel_stride"_a, "dims"_a, "numbers"_a, "number_strides"_a, "groups"_a,
           "multiprocessors"_a, "asked"_a = nothing)
      .def_property_readonly("kernel", [](const GroupedLaunch& l) { return kernel_name(l); })
      .def_property_readonly("args_bytes",
                             [](const GroupedLaunch&) { return sizeof(GroupedArgs); });
  py::class_<CudaPlan>(m, "CudaPlan", "A layer's way into the kernels; see csrc/cuda_fast_path.h.")
      .def(py::init<py::object, py::object, int, int>(), py::kw_only(), "tensor_type"_a,
           "exchange_api"_a, "device_type"_a, "device_id"_a)
      .def("update", &cuda_update, py::kw_only(), "launch"_a, "shape"_a, "strides"_a,
           "thresholds"_a, "limits"_a, "state"_a, "row"_a, "requested"_a, "clock"_a, "replays"_a,
           "parts"_a, "tickets"_a, "kernel"_a, "context"_a, "stream"_a)
      .def("try_update", py::overload_cast<py::handle>(&CudaPlan::try_update))
      .def("forget", &CudaPlan::forget);
  py::class_<CudaGroupPlan>(m, "CudaGroupPlan", "The same of positions in groups.")
      .def(py::init<py::object, py::object, int, int>(), py::kw_only(), "tensor_type"_a,
           "exchange_api"_a, "device_type"_a, "device_id"_a)
      .def("update", &cuda_update_groups, py::kw_only(), "launch"_a, "shape"_a, "strides"_a,
           "thresholds"_a, "limits"_a, "state"_a, "row"_a, "requested"_a, "clock"_a, "replays"_a,
           "parts"_a, "tickets"_a, "kernel"_a, "context"_a, "stream"_a)
      .def("try_update", &CudaGroupPlan::try_update)
      .def("forget", &CudaGroupPlan::forget);
  m.def("cuda_begin_pass", &cuda_begin_pass, py::kw_only(), "clock"_a, "kernel"_a, "context"_a,
        "stream"_a, "Begin a pass on the device; see csrc/state.h.");
  py::class_<CudaFold>(m, "CudaFold", "The way of partials into states; see csrc/cuda_fold.h.")
      .def(py::init<py::object, py::object, int, int, std::uintptr_t, std::uintptr_t>(),
           py::kw_only(), "tensor_type"_a, "exchange_api"_a, "device_type"_a, "device_id"_a,
           "kernel"_a, "context"_a)
      .def_property_readonly_static("args_bytes",
                                    [](const py::object&) { return sizeof(FoldArgs); })
      .def("run", &CudaFold::run);
  m.def("cuda_check_driver", &cuda::check_driver, "Raise CudaDriverError if none can launch.");
}

void add_graph_pass(i64 number, std::uintptr_t gate, std::uintptr_t clocks,
                    std::uintptr_t first_pass, std::uintptr_t counts, std::uintptr_t asked,
                    i64 every, int when) {
  Pass pass = {};
  pass.gate = reinterpret_cast<const i64*>(gate);
  pass.clocks = reinterpret_cast<i64*>(clocks);
  pass.first_pass = reinterpret_cast<i64*>(first_pass);
  pass.counts = reinterpret_cast<i64*>(counts);
  pass.asked = reinterpret_cast<i64*>(asked);
  pass.every = every;
  pass.when = when;
  add_pass(number, pass);
}

void add_graphs(py::module_& m) {
  m.def("register_observe", &register_observe, py::kw_only(), "device_type"_a, "in_backward"_a,
        "Give torch our kernel of fmstats::observe; see csrc/graph_targets.h.");
  m.def("make_observe_directly", &make_observe_directly, py::kw_only(), "operation"_a,
        "exchange_api"_a, "A way around the dispatcher; see csrc/graph_targets.h.");
  m.def("make_observe_on_host_directly", &make_observe_on_host_directly, py::kw_only(),
        "operation"_a, "exchange_api"_a);
  m.def("add_graph_target", &add_graph_target, py::kw_only(), "number"_a, "plan"_a, "memory"_a,
        "open"_a);
  m.def("remove_graph_target", &remove_graph_target);
  m.def("take_graph_calls", &take_graph_calls);
  m.def("make_begin_pass_directly", &make_begin_pass_directly, py::kw_only(), "function"_a,
        "in_backward"_a, "is_traced"_a, "A way around Python; see csrc/graph_passes.h.");
  m.def("add_graph_pass", &add_graph_pass, py::kw_only(), "number"_a, "gate"_a, "clocks"_a,
        "first_pass"_a, "counts"_a, "asked"_a, "every"_a, "when"_a);
  m.def("remove_graph_pass", &remove_pass);
}

}  // namespace

PYBIND11_MODULE(_native, m) {
  m.doc() = "Kernels of fmstats; see fmstats/backends for the checks made before each call.";
#define FMSTATS_NAME(name, ...) fields.append(#name);
  py::list fields;
  FMSTATS_FIELDS(FMSTATS_NAME)
  FMSTATS_REQUESTED(FMSTATS_NAME)
#undef FMSTATS_NAME
  m.attr("FIELDS") = py::tuple(fields);
  m.attr("DTYPES") =
      py::make_tuple("float32", "float64", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2");
  add_cpu(m);
  add_cuda(m);
  add_graphs(m);
}
