#include "cuda_fold.h"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <vector>

namespace py = pybind11;

namespace fmstats {
namespace {

constexpr dlpack::DataType kInt32 = {0, 32, 1}, kInt64 = {0, 64, 1};

[[noreturn]] void refuse(const std::string& what) {
  throw std::invalid_argument("partials cannot be folded: " + what);
}

// Reads what is on one device.
struct Reader {
  PyObject* tensor_type;
  const dlpack::ExchangeApi* api;
  dlpack::Device device;

  dlpack::Tensor read(PyObject* x) const {
    dlpack::Tensor t = {};
    if (reinterpret_cast<PyObject*>(Py_TYPE(x)) != tensor_type) refuse("one is no plain tensor");
    if (api->tensor_from_py_object(x, &t) != 0) {
      PyErr_Clear();
      refuse("one has no memory of its own");
    }
    if (t.device.type != device.type || t.device.id != device.id) refuse("not of one device");
    t.data = static_cast<char*>(t.data) + t.byte_offset;
    return t;
  }
};

bool contiguous(const dlpack::Tensor& t) {
  i64 step = 1;
  for (int d = t.ndim - 1; d >= 0; --d) {
    if (t.shape[d] != 1 && t.strides[d] != step) return false;
    step *= t.shape[d];
  }
  return true;
}

// How many counts of a layer are one number: fmstats/statistic/packing.py tells it.
void pack_counts(i64 planes, FoldLayer& layer) {
  constexpr int kExactBits = 24;  // integers of so many bits are exact as float32
  if (layer.positions < 1 || planes < 1 || layer.positions % planes != 0) {
    refuse("positions are not planes'");
  }
  int bits = 0;
  for (i64 n = layer.positions / planes; n != 0; n >>= 1) ++bits;
  if (bits > kExactBits) refuse("float32 does not count so many positions");
  layer.bits = static_cast<unsigned char>(bits);
  layer.together = static_cast<unsigned char>(std::min(kExactBits / bits, int{kPartCounts}));
#define FMSTATS_COUNT(...) ++layer.counts;
#define FMSTATS_COMPARISON(name, Name, Mode) layer.counts += layer.mode >= k##Mode;
  FMSTATS_NON_FINITE(FMSTATS_COUNT)
  FMSTATS_COMPARISONS(FMSTATS_COMPARISON)
#undef FMSTATS_COUNT
#undef FMSTATS_COMPARISON
}

// Where the partials of a layer lie in its tensor: fmstats/statistic/partials.py tells it. Returns
// how many words of 4 bytes there are of each plane and channel.
i64 place_partials(const void* partials, i64 step, FoldLayer& layer) {
  i64 words = 0;
  const auto next = [&](int size) {
    const void* const at = static_cast<const char*>(partials) + words * step * 4;
    words += size / 4;
    return at;
  };
  const void** real = layer.reals;
#define FMSTATS_SUM(...) *real++ = next(sizeof(double));
#define FMSTATS_EXTREME(...) *real++ = next(sizeof(int));
  FMSTATS_PART_SUMS(FMSTATS_SUM)
  for (int number = 0; number * layer.together < layer.counts; ++number)
    layer.counts_in[number] = next(sizeof(float));
  FMSTATS_EXTREMES(FMSTATS_EXTREME)
#undef FMSTATS_SUM
#undef FMSTATS_EXTREME
  return words;
}

FoldLayer layer_of(const dlpack::Tensor& partials, const dlpack::Tensor& memory, i64 positions,
                   Mode mode) {
  if (!same(memory.dtype, kInt64) || memory.ndim != 1 || memory.shape[0] % kFields != 1 ||
      !contiguous(memory)) {
    refuse("one has no memory of a state");
  }
  const i64 channels = memory.shape[0] / kFields;
  if (!same(partials.dtype, kInt32) || partials.ndim != 3 || partials.shape[2] != channels ||
      !contiguous(partials)) {
    refuse("one has another type, shape or strides");
  }
  if (reinterpret_cast<std::uintptr_t>(partials.data) % sizeof(double) != 0) refuse("one is odd");
  const i64 planes = partials.shape[1];
  if (channels > INT32_MAX || planes > INT32_MAX) refuse("one is too large");
  FoldLayer layer = {};
  layer.memory = static_cast<i64*>(memory.data);
  layer.positions = positions;
  layer.channels = static_cast<int>(channels);
  layer.planes = static_cast<int>(planes);
  layer.mode = static_cast<unsigned char>(mode);
  pack_counts(planes, layer);
  if (place_partials(partials.data, planes * channels, layer) != partials.shape[0]) {
    refuse("one has another number of words");
  }
  return layer;
}

int at_least(i64 n, int most) {
  int power = 1;
  while (power < n && power < most) power *= 2;
  return power;
}

// Fills launches with layers.
class Launcher {
 public:
  Launcher(const cuda::Target& target, i64* clock) : target_(target) { args_.clock = clock; }

  // The next layers, which have one state: their blocks are those of the first in a launch.
  void add(FoldLayer* begin, FoldLayer* end) {
    int planes = 0;
    for (const FoldLayer* layer = begin; layer != end; ++layer)
      planes = std::max(planes, layer->planes);
    const int rows = at_least(planes, kFoldRows);
    const int lanes = at_least(begin->channels, kFoldThreads / rows);
    const unsigned blocks = std::max((begin->channels + lanes - 1) / lanes, 1);
    bool first = true;
    for (; begin != end; ++begin) {
      if (args_.count == kFoldLayers) {
        launch();
        first = true;
      }
      begin->lanes = static_cast<short>(lanes);
      begin->first_block = grid_;
      if (first) {
        grid_ += blocks;
        first = false;
      }
      args_.layers[args_.count++] = *begin;
    }
  }

  void launch() {
    if (args_.count != 0) cuda::launch(target_, grid_, 1, kFoldThreads, &args_);
    args_.count = 0;
    grid_ = 0;
  }

 private:
  cuda::Target target_;
  FoldArgs args_ = {};
  unsigned grid_ = 0;
};

}  // namespace

CudaFold::CudaFold(py::object tensor_type, const py::object& api, int device_type, int device_id,
                   std::uintptr_t kernel, std::uintptr_t context)
    : tensor_type_(std::move(tensor_type)),
      api_(exchange_api(api)),
      device_{device_type, device_id},
      kernel_(reinterpret_cast<void*>(kernel)),
      context_(reinterpret_cast<void*>(context)) {
  if (api_ == nullptr) refuse("this torch has no DLPack exchange API");
}

void CudaFold::run(const py::list& partials, const py::list& memories, py::handle clock,
                   const py::list& positions, const py::list& modes, std::uintptr_t stream) const {
  const std::size_t count = memories.size();
  if (partials.size() != count || positions.size() != count || modes.size() != count) {
    refuse("not one of each for a layer");
  }
  const Reader reader = {tensor_type_.ptr(), api_, device_};
  const dlpack::Tensor words = reader.read(clock.ptr());
  if (!same(words.dtype, kInt64) || words.ndim != 1 || words.shape[0] != kClockWords ||
      !contiguous(words)) {
    refuse("the clock has another type, shape or strides");
  }
  std::vector<FoldLayer> layers;
  layers.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    const dlpack::Tensor part = reader.read(partials[i].ptr());
    const dlpack::Tensor memory = reader.read(memories[i].ptr());
    const Mode mode = read_mode(modes[i].cast<int>());
    layers.push_back(layer_of(part, memory, positions[i].cast<i64>(), mode));
  }
  // Those of one state together, in their order.
  std::stable_sort(layers.begin(), layers.end(),
                   [](const FoldLayer& a, const FoldLayer& b) { return a.memory < b.memory; });
  const cuda::Target target = {kernel_, context_, reinterpret_cast<void*>(stream)};
  Launcher launcher(target, static_cast<i64*>(words.data));
  for (FoldLayer *begin = layers.data(), *all = begin + count, *end; begin != all; begin = end) {
    end = std::find_if(begin, all, [&](const FoldLayer& l) { return l.memory != begin->memory; });
    launcher.add(begin, end);
  }
  launcher.launch();
}

}  // namespace fmstats
