#include "cuda_fold.h"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <vector>

namespace py = pybind11;

namespace fmstats {
namespace {

constexpr dlpack::DataType kInt32 = {0, 32, 1}, kInt64 = {0, 64, 1};
constexpr dlpack::DataType kFloat32Type = {2, 32, 1}, kFloat64Type = {2, 64, 1};

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

// Its address, if it is contiguous and of this type and shape.
const void* address_of(const dlpack::Tensor& t, dlpack::DataType type, int dims, const i64* shape) {
  const bool fits =
      same(t.dtype, type) && t.ndim == dims && std::equal(shape, shape + dims, t.shape);
  if (!fits || !contiguous(t)) refuse("one has another type, shape or strides");
  return t.data;
}

// What the first partial of a layer, which has counts, tells of all.
struct Shape {
  int dims;
  i64 sizes[2];  // of (planes, channels) or (channels,)

  i64 planes() const { return dims == 2 ? sizes[0] : 1; }
};

Shape shape_of(const dlpack::Tensor& count, i64 channels) {
  Shape shape = {count.ndim, {}};
  if (count.ndim != 1 && count.ndim != 2) refuse("a count has neither one dim nor two");
  std::copy_n(count.shape, count.ndim, shape.sizes);
  if (shape.sizes[count.ndim - 1] != channels) refuse("a count has another shape");
  if (channels > INT32_MAX || shape.sizes[0] > INT32_MAX) refuse("one is too large");
  return shape;
}

// Hands out the partials of all layers, in their order.
struct Parts {
  const Reader& reader;
  PyObject* const* next;
  std::size_t left;

  dlpack::Tensor first() const {
    if (left == 0) refuse("there are too few");
    return reader.read(*next);
  }

  const void* take(dlpack::DataType type, const Shape& shape) {
    const void* const address = address_of(first(), type, shape.dims, shape.sizes);
    ++next;
    --left;
    return address;
  }
};

// Takes the counts of a layer: fmstats/statistic/packing.py tells which are in one number.
void take_counts(Parts& parts, const Shape& shape, i64 positions, FoldLayer& layer) {
  constexpr int kExactBits = 24;  // integers of so many bits are exact as float32
  const i64 planes = shape.planes();
  if (positions < 1 || planes < 1 || positions % planes != 0) refuse("positions are not planes'");
  int bits = 0;
  for (i64 n = positions / planes; n != 0; n >>= 1) ++bits;
  if (bits > kExactBits) refuse("float32 does not count so many positions");
  layer.bits = static_cast<unsigned char>(bits);
  layer.together = static_cast<unsigned char>(std::min(kExactBits / bits, int{kPartCounts}));
#define FMSTATS_COUNT(...) ++layer.counts;
#define FMSTATS_COMPARISON(name, Name, Mode) layer.counts += layer.mode >= k##Mode;
  FMSTATS_NON_FINITE(FMSTATS_COUNT)
  FMSTATS_COMPARISONS(FMSTATS_COMPARISON)
#undef FMSTATS_COUNT
#undef FMSTATS_COMPARISON
  for (int number = 0; number * layer.together < layer.counts; ++number)
    layer.counts_in[number] = parts.take(kFloat32Type, shape);
}

// The next layer.
FoldLayer layer_of(Parts& parts, PyObject* memory, i64 positions, Mode mode) {
  const dlpack::Tensor words = parts.reader.read(memory);
  if (!same(words.dtype, kInt64) || words.ndim != 1 || words.shape[0] % kFields != 1 ||
      !contiguous(words)) {
    refuse("one has no memory of a state");
  }
  const i64 channels = words.shape[0] / kFields;
  const Shape shape = shape_of(parts.first(), channels);
  FoldLayer layer = {};
  layer.mode = static_cast<unsigned char>(mode);
  take_counts(parts, shape, positions, layer);
  const void** real = layer.reals;
#define FMSTATS_SUM(...) *real++ = parts.take(kFloat64Type, shape);
#define FMSTATS_EXTREME(...) *real++ = parts.take(kInt32, shape);
  FMSTATS_PART_SUMS(FMSTATS_SUM)
  FMSTATS_EXTREMES(FMSTATS_EXTREME)
#undef FMSTATS_SUM
#undef FMSTATS_EXTREME
  layer.memory = static_cast<i64*>(words.data);
  layer.positions = positions;
  layer.channels = static_cast<int>(channels);
  layer.planes = static_cast<int>(shape.planes());
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

void CudaFold::run(const py::list& parts, const py::list& memories, py::handle clock,
                   const py::list& positions, const py::list& modes, std::uintptr_t stream) const {
  const std::size_t count = memories.size();
  if (positions.size() != count || modes.size() != count) refuse("not one of each for a layer");
  const Reader reader = {tensor_type_.ptr(), api_, device_};
  const dlpack::Tensor words = reader.read(clock.ptr());
  const i64 length = kClockWords;
  Parts left = {reader, PySequence_Fast_ITEMS(parts.ptr()), parts.size()};
  std::vector<FoldLayer> layers;
  layers.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    const Mode mode = read_mode(modes[i].cast<int>());
    layers.push_back(layer_of(left, memories[i].ptr(), positions[i].cast<i64>(), mode));
  }
  if (left.left != 0) refuse("there are too many");
  // Those of one state together, in their order.
  std::stable_sort(layers.begin(), layers.end(),
                   [](const FoldLayer& a, const FoldLayer& b) { return a.memory < b.memory; });
  const cuda::Target target = {kernel_, context_, reinterpret_cast<void*>(stream)};
  Launcher launcher(target,
                    static_cast<i64*>(const_cast<void*>(address_of(words, kInt64, 1, &length))));
  for (FoldLayer *begin = layers.data(), *all = begin + count, *end; begin != all; begin = end) {
    end = std::find_if(begin, all, [&](const FoldLayer& l) { return l.memory != begin->memory; });
    launcher.add(begin, end);
  }
  launcher.launch();
}

}  // namespace fmstats
