// Functions for code that Inductor generates: each does at once what a function of Python's does,
// or hands its arguments on to that one.
#pragma once

#include <pybind11/pybind11.h>

#include <exception>
#include <utility>

#include "state.h"

namespace fmstats {

// An integer argument; -1 if there is none at this place.
inline i64 integer_at(PyObject* const* args, Py_ssize_t count, Py_ssize_t place) {
  const i64 number = place < count ? PyLong_AsLongLong(args[place]) : -1;
  if (number == -1 && PyErr_Occurred() != nullptr) PyErr_Clear();
  return number;
}

// What a function without arguments returns.
inline pybind11::object ask(pybind11::handle function) {
  auto answer = pybind11::reinterpret_steal<pybind11::object>(PyObject_CallNoArgs(function.ptr()));
  if (answer.ptr() == nullptr) throw pybind11::error_already_set();
  return answer;
}

// in_backward: returns -1 outside of a backward pass.
inline bool is_in_backward(pybind11::handle in_backward) {
  return PyLong_AsLong(ask(in_backward).ptr()) != -1;
}

// Direct: `function`, which takes what is not done, and `done`, which does it or returns false.
template <class Direct>
PyObject* call_direct(PyObject* self, PyObject* const* args, Py_ssize_t count) {
  const auto* direct = static_cast<Direct*>(PyCapsule_GetPointer(self, Direct::kName));
  try {
    if (direct->done(args, count)) Py_RETURN_NONE;
  } catch (pybind11::error_already_set& error) {
    error.restore();
    return nullptr;
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
    return nullptr;
  }
  return PyObject_Vectorcall(direct->function.ptr(), args, count, nullptr);
}

template <class Direct>
pybind11::object make_direct(Direct direct) {
  static PyMethodDef method = {
      Direct::kName,
      reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&call_direct<Direct>)),
      METH_FASTCALL, nullptr};
  const pybind11::capsule self(new Direct(std::move(direct)), Direct::kName, [](PyObject* capsule) {
    delete static_cast<Direct*>(PyCapsule_GetPointer(capsule, Direct::kName));
  });
  return pybind11::reinterpret_steal<pybind11::object>(PyCFunction_New(&method, self.ptr()));
}

}  // namespace fmstats
