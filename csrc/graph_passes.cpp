#include "graph_passes.h"

#include <stdexcept>
#include <unordered_map>
#include <utility>

#include "direct_call.h"

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

// mark_pass_boundary(tokens, target, training)
struct Marker {
  static constexpr const char* kName = "begin_pass_directly";
  py::object function, in_backward, is_traced;

  bool done(PyObject* const* args, Py_ssize_t count) const;
};

// Whether nothing is left to be done for a pass that begins: PassHook.observe tells the rest.
bool is_begun(const Marker& marker, const Pass& pass, bool training) {
  if (pass.gate[kClosed] != 0 || is_in_backward(marker.in_backward)) return true;
  const bool left_out = pass.when >= 0 && training != (pass.when == 1);
  if (left_out || ask(marker.is_traced).ptr() != Py_False) {
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

bool Marker::done(PyObject* const* args, Py_ssize_t count) const {
  const auto found = passes().find(count == 3 ? integer_at(args, count, 1) : -1);
  return found != passes().end() && is_begun(*this, found->second, args[2] == Py_True);
}

}  // namespace

py::object make_begin_pass_directly(py::object function, py::object in_backward,
                                    py::object is_traced) {
  return make_direct(Marker{std::move(function), std::move(in_backward), std::move(is_traced)});
}

void add_pass(i64 number, const Pass& pass) {
  if (pass.every < 1) throw std::invalid_argument("one in so many passes is taken: from 1 on");
  passes()[number] = pass;
}

void remove_pass(i64 number) {
  passes().erase(number);
}

}  // namespace fmstats
