// The CPU kernels as a process that is handed tensors and states, so that an emulator can run what
// was compiled for another processor. tests/arm64_host.py is the other end.
//
// A request is a count of words, these words, and the bytes of the tensor, of the numbers of its
// positions, of the state, of its histograms and of the clock. The answer is the last three.
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "cpu/driver.h"
#include "cpu/isa.h"

using namespace fmstats;

namespace {

// Ends where the other end has closed.
void read_bytes(void* to, size_t size) {
  if (size != 0 && std::fread(to, 1, size, stdin) != size) std::exit(0);
}

// Bytes that begin as far from a cache line as those they are a copy of.
struct Bytes {
  Bytes(i64 size, i64 beyond_line) : room(static_cast<size_t>(size + 128)), size_(size) {
    const auto address = reinterpret_cast<size_t>(room.data());
    begin = room.data() + (64 - address % 64) + beyond_line;
    read_bytes(begin, static_cast<size_t>(size));
  }
  void answer() const { std::fwrite(begin, 1, static_cast<size_t>(size_), stdout); }

  std::vector<char> room;
  char* begin;
  i64 size_;
};

}  // namespace

int main() {
  for (;;) {
    i64 count = 0;
    read_bytes(&count, sizeof count);
    std::vector<i64> words(static_cast<size_t>(count));
    read_bytes(words.data(), words.size() * sizeof(i64));
    const i64* word = words.data();
    const auto next = [&] { return *word++; };
    const auto next_real = [&] {
      double real;
      __builtin_memcpy(&real, word++, sizeof real);
      return real;
    };

    View view = {};
    view.dtype = static_cast<DType>(next());
    view.channels = next();
    view.channel_stride = next();
    view.dim_count = static_cast<int>(next());
    for (int d = 0; d < view.dim_count; ++d) view.size[d] = next();
    for (int d = 0; d < view.dim_count; ++d) view.stride[d] = next();
    Groups groups = {};
    groups.count = static_cast<int>(next());  // 0: all positions count
    if (groups.count != 0) {
      for (int d = 0; d < view.dim_count; ++d) groups.stride[d] = next();
    }
    const Thresholds thresholds = {next_real(), next_real(), next_real()};
    const Mode mode = static_cast<Mode>(next());
    const int threads = static_cast<int>(next());
    Destination to = {};
    to.row = next();
    const i64 sum_abs = next(), m3 = next();  // words of the state; -1: not requested
    const bool has_bins = next() != 0;
    to.requested.per_channel = static_cast<int>(next());
    to.requested.resolution = static_cast<int>(next());

    const i64 data_size = next(), beyond_line = next();
    Bytes data(data_size, beyond_line), numbers(next(), 0), state(next(), 0), bins(next(), 0),
        clock(next(), 0);
    view.data = data.begin;
    groups.numbers = reinterpret_cast<const unsigned char*>(numbers.begin);
    to.state = reinterpret_cast<i64*>(state.begin);
    to.clock = reinterpret_cast<i64*>(clock.begin);
    auto* const reals = reinterpret_cast<double*>(state.begin);
    if (sum_abs >= 0) to.requested.sum_abs = reals + sum_abs;
    if (m3 >= 0) to.requested.m3 = reals + m3;
    if (has_bins) to.requested.bins = reinterpret_cast<i64*>(bins.begin);
    accumulate(kBaseline, view, groups.count == 0 ? nullptr : &groups, thresholds, mode, to,
               threads);
    state.answer();
    bins.answer();
    clock.answer();
    std::fflush(stdout);
  }
}
