// Splits a tensor into tasks by its shape alone, runs them on the threads there are, and merges
// their parts in a fixed order: so the bits do not depend on the number of threads.
//
// Threads come from OpenMP: torch's own pool, once torch is loaded (same libgomp.so.1).
#include "driver.h"

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <vector>

#include "selection.h"

#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace fmstats {
namespace {

constexpr i64 kTaskElements = 1 << 16;  // enough work to hide a task's fixed cost
constexpr i64 kTasks = 256;             // enough tasks for the largest machines
// Positions are split, the images of a batch above all, so that threads read what they wrote: torch
// cuts tensors in the order of memory. A part costs as much as 20 positions of columns, and as 100
// of rows.
constexpr i64 kRowPositions = 2048, kRowSplits = 8, kRowElements = 1 << 20;
constexpr i64 kColumnPositions = 384, kColumnElements = 1 << 18;
constexpr i64 kNarrowTile = 256;             // channels, of a task that is to fit into the cache
constexpr i64 kMaxPositions = i64{1} << 30;  // of a task, for 32-bit lane counts
constexpr i64 kLineWords = kLineBytes / 8;
constexpr i64 kChannelChunk = 64;         // channels merged at a time: a multiple of every vector
constexpr i64 kSerialElements = 1 << 17;  // below this, waking threads costs more than it saves
constexpr i64 kSerialFew = 1 << 18;       // the same of few positions
// Stretches of fewer vectors on average cost more than to walk all positions and leave out some.
constexpr i64 kLeastVectors = 2;
constexpr i64 kFoldElements = 16;  // as many, measured by few.h, cost as much as a fold

// IEEE arithmetic while it lives: torch.set_flush_denormal makes the processor take subnormals for
// 0.
class IeeeMode {
 public:
#if defined(__SSE2__)
  IeeeMode() : saved_(_mm_getcsr()) { _mm_setcsr(0x1f80); }
  ~IeeeMode() { _mm_setcsr(saved_); }

 private:
  unsigned saved_;
#elif defined(__aarch64__)
  IeeeMode() {
    __asm__ volatile("mrs %0, fpcr" : "=r"(saved_));
    __asm__ volatile("msr fpcr, %0" : : "r"(0UL));
  }
  ~IeeeMode() { __asm__ volatile("msr fpcr, %0" : : "r"(saved_)); }

 private:
  unsigned long saved_;
#endif
};

struct Plan {
  Kernels::Scan scan;
  i64 channels_a_task, positions_a_task;
  i64 tiles, splits;  // tasks = tiles x splits
};

i64 ceil_div(i64 a, i64 b) {
  return (a + b - 1) / b;
}

bool are_columns(const View& view) {
  return view.channel_stride == 1 && view.channels > 1;
}

// How many channels a task has changes no bits, and may depend on threads; how positions are split
// may not.
Plan plan_of_columns(const Kernels& kernels, const MaskedView& view, i64 positions, int threads,
                     bool narrow) {
  Plan plan;
  plan.scan = kernels.columns[view.dtype];
  const i64 row = std::min(view.channels, kColumnTile);
  const i64 wanted = std::min(ceil_div(positions * row, kColumnElements), kTasks);
  const i64 splits =
      std::max(std::min(wanted, positions / kColumnPositions), ceil_div(positions, kMaxPositions));
  plan.positions_a_task = std::min(ceil_div(positions, splits), kMaxPositions);
  plan.splits = ceil_div(positions, plan.positions_a_task);
  // Whole rows are fastest: memory in its own order.
  const i64 tiles = ceil_div(threads, plan.splits);
  const i64 share = ceil_div(ceil_div(view.channels, tiles), kChannelChunk) * kChannelChunk;
  const i64 tile = narrow ? kNarrowTile : std::min(share, kColumnTile);
  plan.channels_a_task = std::min(view.channels, tile);
  plan.tiles = ceil_div(view.channels, plan.channels_a_task);
  return plan;
}

Plan plan_of_rows(const Kernels& kernels, const MaskedView& view, i64 positions, int threads) {
  const int last = view.dim_count - 1;
  const i64 run = view.size[last];
  Plan plan;
  plan.scan = (view.stride[last] == 1 ? kernels.rows : kernels.strided)[view.dtype];
  const i64 affordable = std::max<i64>(1, kTasks / view.channels);
  const i64 wanted = positions * view.channels < kRowElements ? 1 : kRowSplits;
  const i64 splits = std::max({std::min(positions / kRowPositions, wanted),
                               std::min(positions / kTaskElements, affordable),
                               ceil_div(positions, kMaxPositions)});
  // Split between runs where runs are short.
  const i64 grain = run <= 4096 ? run : 512;
  plan.positions_a_task =
      std::min(ceil_div(ceil_div(positions, splits), grain) * grain, kMaxPositions);
  plan.splits = ceil_div(positions, plan.positions_a_task);
  const i64 most = std::max<i64>(1, kTaskElements / plan.positions_a_task);
  // Each thread gets as many tasks as any other.
  const i64 step = threads / std::gcd<i64>(threads, plan.splits);
  const i64 tiles = ceil_div(ceil_div(view.channels, most), step) * step;
  plan.channels_a_task = ceil_div(view.channels, tiles);
  plan.tiles = ceil_div(view.channels, plan.channels_a_task);
  return plan;
}

// Grow-only, one a thread that calls; large ones are given back at once.
class Buffer {
 public:
  i64* words(i64 count) {
    if (static_cast<i64>(words_.size()) < count) words_.resize(static_cast<std::size_t>(count));
    return words_.data();
  }
  void trim() {
    if (words_.size() > kKept) std::vector<i64>().swap(words_);
  }

 private:
  static constexpr std::size_t kKept = 1 << 17;  // 1 MB
  std::vector<i64> words_;
};

// The bins of a thread's elements, on their way into a histogram.
Tally& own_tally() {
  static thread_local Tally tally;
  return tally;
}

// Measure what is requested of a few positions, as fits into the cache, before they change the
// state.
void request_few(const Kernels& kernels, const Job& whole, i64 positions, i64 c0, i64 c1) {
  static thread_local Buffer buffer;
  const i64 most =
      std::max(kChannelChunk, kTaskElements / positions / kChannelChunk * kChannelChunk);
  Job job = whole;
  job.part_row = most;
  double* words = reinterpret_cast<double*>(buffer.words(most * (1 + kPowerSums)));
  for (i64 c = c0; c < c1; c += most) {
    const i64 end = std::min(c1, c + most);
    // Both lie as if from channel 0 on.
    const Scratch scratch = {words - c, nullptr, words + most - c};
    kernels.choose_pivots(job, c, end, scratch.pivot);
    kernels.request[job.view.dtype](job, scratch.pivot, c, end, 0, positions, scratch.powers,
                                    own_tally());
    kernels.fold_requested(job, c, end, 1, scratch);
    kernels.few[job.view.dtype](job, c, end);
  }
  kernels.settle(job, own_tally());
}

// Channels do not depend on each other, so that any cut gives the same bits.
void measure_few(const Kernels& kernels, const Job& job, i64 positions, int threads) {
  const i64 channels = job.view.channels;
  const auto measure = [&](i64 c0, i64 c1) {
    const IeeeMode ieee;
    if (any_requested(job.requested)) {
      request_few(kernels, job, positions, c0, c1);
    } else {
      kernels.few[job.view.dtype](job, c0, c1);
    }
  };
  if (threads <= 1 || channels * (kFoldElements + positions) <= kSerialFew) {
    measure(0, channels);
    return;
  }
  const i64 most = ceil_div(ceil_div(channels, threads), kChannelChunk) * kChannelChunk;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (i64 c = 0; c < channels; c += most) measure(c, std::min(channels, c + most));
}

void accumulate(const Kernels& kernels, const MaskedView& view, const Thresholds& thresholds,
                Mode mode, const Destination& to, int threads) {
  const i64 positions = position_count(view), channels = view.channels;
  if (channels == 0 || positions == 0) return;
  const bool shared = threads > 1;
  Job job = {view, thresholds, mode, to.state, to.row, to.clock, 0, to.requested, shared};
  if (are_columns(view) && positions <= kernels.few_positions) {
    measure_few(kernels, job, positions, threads);
    return;
  }
  if (channels * positions <= kSerialElements) threads = 1;
  const bool requested = any_requested(to.requested);
  const Plan plan = are_columns(view)
                        ? plan_of_columns(kernels, view, positions, threads, requested)
                        : plan_of_rows(kernels, view, positions, threads);
  // A step of 4 KB from field to field would put them all in one set of the cache.
  job.part_row = ceil_div(channels, kLineWords) * kLineWords + kLineWords;
  const i64 parts_row = plan.splits * kPartFields * job.part_row;
  static thread_local Buffer buffer;
  i64* words =
      buffer.words(job.part_row * (1 + plan.splits * (kPartFields + requested * kPowerSums)));
  i64* const parts = words + job.part_row;
  const Scratch scratch = {reinterpret_cast<double*>(words), parts,
                           reinterpret_cast<double*>(parts + parts_row)};

  const auto pivots = [&](i64 c0, i64 c1) { kernels.choose_pivots(job, c0, c1, scratch.pivot); };
  const auto scan = [&](i64 task) {
    const i64 split = task / plan.tiles;
    const i64 c0 = task % plan.tiles * plan.channels_a_task;
    const i64 c1 = std::min(channels, c0 + plan.channels_a_task);
    const i64 p0 = split * plan.positions_a_task;
    const i64 p1 = std::min(positions, p0 + plan.positions_a_task);
    plan.scan(job, scratch.pivot, c0, c1, p0, p1, parts + split * kPartFields * job.part_row);
    if (requested) {
      kernels.request[view.dtype](job, scratch.pivot, c0, c1, p0, p1,
                                  scratch.powers + split * kPowerSums * job.part_row, own_tally());
    }
  };
  const auto settle = [&] {
    if (requested) kernels.settle(job, own_tally());
  };
  const auto fold = [&](i64 c0, i64 c1) {
    if (requested) kernels.fold_requested(job, c0, c1, plan.splits, scratch);
    kernels.fold(job, c0, c1, plan.splits, scratch);
  };
  const i64 tasks = plan.tiles * plan.splits;
  if (threads <= 1) {
    const IeeeMode ieee;
    pivots(0, channels);
    for (i64 task = 0; task < tasks; ++task) scan(task);
    settle();
    fold(0, channels);
  } else {
    const i64 chunks = ceil_div(channels, kChannelChunk);
#pragma omp parallel num_threads(threads)
    {
      const IeeeMode ieee;
#pragma omp for schedule(static)
      for (i64 i = 0; i < chunks; ++i) {
        pivots(i * kChannelChunk, std::min(channels, (i + 1) * kChannelChunk));
      }
#pragma omp for schedule(static)
      for (i64 task = 0; task < tasks; ++task) scan(task);
      settle();
#pragma omp for schedule(static)
      for (i64 i = 0; i < chunks; ++i) {
        fold(i * kChannelChunk, std::min(channels, (i + 1) * kChannelChunk));
      }
    }
  }
  buffer.trim();
}

}  // namespace

void accumulate(const Kernels& kernels, const View& view, const Groups* groups,
                const Thresholds& thresholds, Mode mode, const Destination& target, int threads) {
  if (groups == nullptr) {
    accumulate(kernels, whole(view), thresholds, mode, target, threads);
    return;
  }
  if (position_count(view) == 0) return;
  static thread_local Selections selections;
  const i64 vector = kernels.vector_bytes / static_cast<i64>(sizeof(float));
  const i64 least = are_columns(view) ? 0 : kLeastVectors * vector;
  const Selection& selection = selections.find(view, *groups, least);
  for (int k = 1; k <= groups->count; ++k) {
    if (selection.counted(k) == 0) continue;
    const i64 first = (k - 1) * view.channels;
    Destination group = target;
    group.state += first;
    group.requested = of_group(target.requested, k, view.channels);
    accumulate(kernels, selection.of(view, k), thresholds, mode, group, threads);
  }
  selections.trim();
}

}  // namespace fmstats
