#include "graph_passes.h"

#include <stdexcept>
#include <unordered_map>
#include <utility>

namespace py = pybind11;

namespace fmstats {
namespace {

enum Gate { kOpen, kSampled, kPaused, kClosed, kCaptured };
enum Clocks { kPasses, kElsewhere };

// The interpreter lock guards it.
std::unordered_map<i64, Pass>& passes() {
  static auto* const all = new std::unordered_map<i64, Pass>;
  return *all;
}

struct Marker {
  py::object function, in_backward, is_traced;
};

constexpr const char* kMarker = "fmstats.begin_pass_directly";

py::object call(const py::object& function) {
  auto result = py::reinterpret_steal<py::object>(PyObject_CallNoArgs(function.ptr()));
  if (result.ptr() == nullptr) throw py::error_already_set();
  return result;
}

bool is_in_backward(const Marker& marker) {
  return PyLong_AsLong(call(marker.in_backward).ptr()) != -1;
}

// Whether nothing is left to be done for a pass that begins: PassHook.observe tells the rest.
bool is_begun(const Marker& marker, const Pass& pass, bool training) {
  if (pass.gate[kClosed] != 0 || is_in_backward(marker)) return true;
  const bool left_out = pass.when >= 0 && training != (pass.when == 1);
  if (left_out || call(marker.is_traced).ptr() != Py_False) {
    return pass.gate[kSampled] == 0 && pass.gate[kCaptured] == 0;
  }
  if (pass.clocks[kElsewhere] != 0 || pass.gate[kCaptured] != 0) return false;
  if (pass.gate[kPaused] != 0) return true;
  const bool taken = *pass.asked % pass.every == 0;
  if (taken != (pass.gate[kSampled] != 0)) return false;  // the gate opens or shuts
  *pass.asked += 1;
  pass.counts[0] += 1;
  pass.counts[1] += taken ? 1 : 0;
  pass.clocks[kPasses] += 1;
  *pass.first_pass = pass.clocks[kPasses];
  return true;
}

// mark_pass_boundary(tokens, target, training)
PyObject* begin_pass(PyObject* self, PyObject* const* args, Py_ssize_t count) {
  const auto* marker = static_cast<Marker*>(PyCapsule_GetPointer(self, kMarker));
  try {
    const i64 number = count != 3 ? -1 : PyLong_AsLongLong(args[1]);
    if (number == -1 && PyErr_Occurred() != nullptr) PyErr_Clear();
    const auto found = passes().find(number);
    if (found != passes().end() && is_begun(*marker, found->second, args[2] == Py_True)) {
      Py_RETURN_NONE;
    }
  } catch (py::error_already_set& error) {
    error.restore();
    return nullptr;
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
    return nullptr;
  }
  return PyObject_Vectorcall(marker->function.ptr(), args, count, nullptr);
}

}  // namespace

py::object make_begin_pass_directly(py::object function, py::object in_backward,
                                    py::object is_traced) {
  static PyMethodDef method = {
      "begin_pass_directly",
      reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&begin_pass)), METH_FASTCALL,
      nullptr};
  auto* const marker =
      new Marker{std::move(function), std::move(in_backward), std::move(is_traced)};
  const py::capsule self(marker, kMarker, [](PyObject* capsule) {
    delete static_cast<Marker*>(PyCapsule_GetPointer(capsule, kMarker));
  });
  return py::reinterpret_steal<py::object>(PyCFunction_New(&method, self.ptr()));
}

void add_pass(i64 number, const Pass& pass) {
  if (pass.every < 1) throw std::invalid_argument("one in so many passes is taken: from 1 on");
  passes()[number] = pass;
}

void remove_pass(i64 number) {
  passes().erase(number);
}

}  // namespace fmstats
