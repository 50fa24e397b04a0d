// Splits a tensor into tasks by its shape alone, runs them on the threads there are, and folds
// their parts in a fixed order: so the bits do not depend on the number of threads.
//
// Threads come from OpenMP: torch's own pool, once torch is loaded (same libgomp.so.1).
#define FMSTATS_VECTOR_BYTES 16
#include "driver.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "exact.h"

#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace fmstats {
namespace {

constexpr i64 kTaskElements = 1 << 16;       // enough work to hide a task's fixed cost
constexpr i64 kTasks = 256;                  // enough tasks for the largest machines
constexpr i64 kMaxPositions = i64{1} << 30;  // of a task, for 32-bit lane counts
constexpr i64 kSerialElements = 1 << 15;     // below this, waking threads costs more than it saves

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
  Scan scan;
  i64 channels_a_task, positions_a_task;
  i64 tiles, splits;  // tasks = tiles x splits
};

i64 ceil_div(i64 a, i64 b) {
  return (a + b - 1) / b;
}

Plan plan_of(const Kernels& kernels, const View& view, i64 positions) {
  const int last = view.dim_count - 1;
  const i64 run = view.size[last];
  Plan plan;
  const bool columns = view.channel_stride == 1 && view.channels > 1;
  if (columns) {
    plan.scan = kernels.columns[view.dtype];
    plan.channels_a_task = std::min<i64>(view.channels, 512);
  } else {
    plan.scan = (view.stride[last] == 1 ? kernels.rows : kernels.strided)[view.dtype];
    plan.channels_a_task = std::min(view.channels, std::max<i64>(1, kTaskElements / positions));
  }
  plan.tiles = ceil_div(view.channels, plan.channels_a_task);
  const i64 wanted = ceil_div(positions * plan.channels_a_task, kTaskElements);
  const i64 affordable = std::max<i64>(1, kTasks / plan.tiles);
  const i64 splits = std::max(std::min(wanted, affordable), ceil_div(positions, kMaxPositions));
  // Split between runs where runs are short.
  const i64 grain = run <= 4096 ? run : 512;
  plan.positions_a_task =
      std::min(ceil_div(ceil_div(positions, splits), grain) * grain, kMaxPositions);
  plan.splits = ceil_div(positions, plan.positions_a_task);
  return plan;
}

// Element types by dtype, for the code that runs once a channel or rarely.
template <class Visit>
auto with_element(DType dtype, Visit visit) {
  switch (dtype) {
    case kFloat64:
      return visit(Float64{});
    case kFloat16:
      return visit(Float16{});
    case kBFloat16:
      return visit(BFloat16{});
    case kFloat8E4M3:
      return visit(Float8E4M3{});
    case kFloat8E5M2:
      return visit(Float8E5M2{});
    default:
      return visit(Float32{});
  }
}

// The mean and spread of a few elements of the channel, as a state.
ChannelState sample_channel(const View& view, i64 channel, i64 positions) {
  constexpr i64 kSamples = 16;
  Partial sample = empty_partial();
  const i64 samples = std::min(kSamples, positions);
  with_element(view.dtype, [&](auto element) {
    for (i64 i = 0; i < samples; ++i) {
      // Golden-ratio steps: even ones would meet the same column of every image.
      const double at = 0.5 + static_cast<double>(i) * 0.6180339887498949;
      const i64 p = static_cast<i64>((at - std::floor(at)) * static_cast<double>(positions));
      scan_moments_exactly<decltype(element)>(view, channel, p, p + 1, 0.0, sample);
    }
  });
  return to_state(sample, samples, 0.0);
}

// A number near the mean, on a grid of about a quarter of the standard deviation: with few digits,
// the squares of what occurs most (the zeros of a ReLU, the few values of an fp8 type) are short
// enough to be added without the rounding that would err the same way in every lane.
double choose_pivot(const ChannelState& s, DType dtype) {
  const i64 n = finite_count(s);
  if (n == 0) return 0.0;
  double pivot = s.mean;
  const double std = std::sqrt(s.m2 / static_cast<double>(n));
  if (std > 0.0 && std < infinity()) {
    const double grid = std::ldexp(1.0, std::ilogb(std) - 2);
    pivot = std::nearbyint(pivot / grid) * grid;
  }
  return dtype == kFloat64 ? pivot : static_cast<double>(static_cast<float>(pivot));
}

// Measure a channel again, every element in float64 about a pivot that is its mean.
Partial measure_exactly(const View& view, const Thresholds& thresholds, i64 channel, i64 positions,
                        double pivot) {
  Partial part = empty_partial();
  with_element(view.dtype, [&](auto element) {
    visit_channel<decltype(element)>(view, channel, 0, positions, [&](double x) {
      add_moments(x, pivot, part);
      add_thresholds(x, thresholds, part);
    });
  });
  return part;
}

void fold_channel(const View& view, const Thresholds& thresholds, i64 channel, i64 positions,
                  double pivot, const Partial& part, i64* state, i64 row) {
  const ChannelState before = load_state(state, row, channel);
  ChannelState batch = to_state(part, positions, pivot);
  ChannelState after = merge(before, batch);
  if (too_coarse(part, finite_count(batch), before, after, view.dtype != kFloat64)) {
    pivot = batch.mean;
    batch =
        to_state(measure_exactly(view, thresholds, channel, positions, pivot), positions, pivot);
    after = merge(before, batch);
  }
  store_state(state, row, channel, after);
}

}  // namespace

void accumulate(const Kernels& kernels, const View& view, const Thresholds& thresholds, i64* state,
                i64 row, int threads) {
  const i64 positions = position_count(view), channels = view.channels;
  if (channels == 0 || positions == 0) return;
  const Plan plan = plan_of(kernels, view, positions);
  std::vector<double> pivot(channels);
  std::vector<Partial> parts(channels * plan.splits, empty_partial());  // split-major
  const Job job = {view, thresholds, pivot.data()};
  const i64 tasks = plan.tiles * plan.splits;
  const int team = channels * positions <= kSerialElements ? 1 : threads;
  (void)team;  // a build without OpenMP

#pragma omp parallel num_threads(team) if (team > 1)
  {
    const IeeeMode ieee;
#pragma omp for schedule(static)
    for (i64 c = 0; c < channels; ++c) {
      const ChannelState before = load_state(state, row, c);
      pivot[c] = choose_pivot(
          finite_count(before) > 0 ? before : sample_channel(view, c, positions), view.dtype);
    }
#pragma omp for schedule(dynamic)
    for (i64 task = 0; task < tasks; ++task) {
      const i64 c0 = task % plan.tiles * plan.channels_a_task;
      const i64 p0 = task / plan.tiles * plan.positions_a_task;
      plan.scan(job, c0, std::min(channels, c0 + plan.channels_a_task), p0,
                std::min(positions, p0 + plan.positions_a_task),
                parts.data() + task / plan.tiles * channels + c0);
    }
#pragma omp for schedule(static)
    for (i64 c = 0; c < channels; ++c) {
      Partial part = parts[c];
      for (i64 s = 1; s < plan.splits; ++s) add(part, parts[s * channels + c]);
      fold_channel(view, thresholds, c, positions, pivot[c], part, state, row);
    }
  }
}

}  // namespace fmstats
