// One channel at a time along runs of positions: NCHW (the run is contiguous), and, with a gather
// in place of the load, any strides at all.
//
// A block is a stretch of positions that adds at most kBlockSteps vectors to each of two chains of
// lanes, which stay in registers from the channel's first block to its last. A block that is not
// finite is dropped, its minimum and maximum rolled back, and read again exactly.
//
// The end of a run that fills no vector is read as the run's last kWidth elements, masked; a run
// shorter than that waits in `pending` for the next.
#pragma once

#include "exact.h"
#include "lanes.h"

namespace fmstats {
namespace {

// Arithmetic on this many streams hides a load from the cache, not from memory: without a hint the
// processor fetches and computes in turns, at two thirds of the speed.
constexpr i64 kAheadBytes = 4096;

// Load kLanes elements that lie `step` apart (1 where kContiguous).
template <class E, bool kContiguous>
inline typename Vec<typename E::Real>::type load_run(const typename E::Storage* p, i64 step) {
  if constexpr (kContiguous) return E::vector(p);
  constexpr int kWidth = kLanes<typename E::Real>;
  typename E::Storage gathered[kWidth];
  for (int i = 0; i < kWidth; ++i) gathered[i] = p[i * step];
  return E::vector(gathered);
}

// Load twice as many, in any order.
template <class E, bool kContiguous, class V>
inline void load_two(const typename E::Storage* p, i64 step, V& x, V& y) {
  if constexpr (kContiguous) {
    E::two(p, x, y);
  } else {
    x = load_run<E, false>(p, step);
    y = load_run<E, false>(p + kLanes<typename E::Real> * step, step);
  }
}

// Positions of a block: whole runs where they are short. A run gives a chain every other vector of
// its own, or waits with others until there is a vector.
template <class E>
inline i64 block_positions(const View& view) {
  constexpr i64 kWidth = kLanes<typename E::Real>, kMost = 2 * kBlockSteps * kWidth;
  const i64 run = view.size[view.dim_count - 1];
  if (run >= kMost) return kMost;
  if (run < kWidth) return kBlockSteps * kWidth / run * run;
  return kBlockSteps / ((run + 2 * kWidth - 1) / (2 * kWidth)) * run;
}

// Fold positions [p0, p1) of a channel block by block; `start` stands at p0.
template <class E, Mode kMode, bool kContiguous>
void scan_channel(const Job& job, double exact_pivot, i64 channel, const Runs& start, i64 p0,
                  i64 p1, i64 block, Partial& part) {
  typedef typename E::Real Real;
  typedef typename E::Storage Storage;
  typedef typename Vec<Real>::type V;
  constexpr int kWidth = kLanes<Real>;

  const View& view = job.view;
  const i64 step = kContiguous ? 1 : view.stride[view.dim_count - 1];
  const auto* first = static_cast<const Storage*>(view.data) + channel * view.channel_stride;
  const Limits<Real> limits(job.thresholds);
  const V pivot = splat<V>(static_cast<Real>(exact_pivot));
  Lanes<Real> a, b;  // two, to hide the latency of the additions
  double sum[kWidth] = {}, sum_sq[kWidth] = {};
  Storage pending[2 * kWidth];
  int waiting = 0;
  Runs runs(start);

  while (p0 < p1) {
    const i64 block_start = p0, end = p1 - p0 < block ? p1 : p0 + block;
    a.sum = a.sum_sq = b.sum = b.sum_sq = V{};
    const V kept[4] = {a.min, a.max, b.min, b.max};
    while (p0 < end) {
      i64 n = runs.left() < end - p0 ? runs.left() : end - p0;
      const Storage* p = first + runs.offset();
      runs.advance(n);
      p0 += n;
      const bool reaches_back = n >= kWidth;
      for (; n >= 2 * kWidth; n -= 2 * kWidth, p += 2 * kWidth * step) {
        if constexpr (kContiguous) {
          __builtin_prefetch(reinterpret_cast<const char*>(p) + kAheadBytes);
        }
        V x, y;
        load_two<E, kContiguous>(p, step, x, y);
        take<kMode>(a, limits, pivot, x);
        take<kMode>(b, limits, pivot, y);
      }
      if (n >= kWidth) {
        take<kMode>(a, limits, pivot, load_run<E, kContiguous>(p, step));
        n -= kWidth;
        p += kWidth * step;
      }
      if (n == 0) continue;
      if (reaches_back) {
        const V x = load_run<E, kContiguous>(p - (kWidth - n) * step, step);
        take_some<kMode>(b, limits, pivot, x, lanes_from(kWidth - static_cast<int>(n), V{}));
        continue;
      }
      for (i64 i = 0; i < n; ++i) pending[waiting + i] = p[i * step];
      waiting += static_cast<int>(n);
      if (waiting >= kWidth) {
        take<kMode>(b, limits, pivot, E::vector(pending));
        waiting -= kWidth;
        for (int i = 0; i < waiting; ++i) pending[i] = pending[kWidth + i];
      }
    }
    if (waiting > 0) {
      for (int i = waiting; i < kWidth; ++i) pending[i] = pending[0];
      take_some<kMode>(b, limits, pivot, E::vector(pending), ~lanes_from(waiting, V{}));
      waiting = 0;
    }
    const V block_sum_sq = a.sum_sq + b.sum_sq;
    if (any_non_finite(block_sum_sq)) {
      a.min = kept[0];
      a.max = kept[1];
      b.min = kept[2];
      b.max = kept[3];
      scan_moments_exactly<E>(view, channel, block_start, end, exact_pivot, part);
    } else {
      add_lanes(a.sum + b.sum, sum);
      add_lanes(block_sum_sq, sum_sq);
    }
  }

  const auto plus = [](auto x, auto y) { return x + y; };
  const auto min_of = [](auto x, auto y) { return keep_min(x, y); };
  const auto max_of = [](auto x, auto y) { return keep_max(x, y); };
  part.sum += total(sum);
  part.sum_sq += total(sum_sq);
  part.min = smaller(part.min, static_cast<double>(across(keep_min(a.min, b.min), min_of)));
  part.max = larger(part.max, static_cast<double>(across(keep_max(a.max, b.max), max_of)));
  part.zeros += across(a.zeros + b.zeros, plus);
  if constexpr (kMode == kAll) part.sat_low += across(a.low + b.low, plus);
  if constexpr (kMode != kPlain) part.sat_high += across(a.high + b.high, plus);
}

template <class E, bool kContiguous>
void scan_rows(const Job& job, const double* pivot, i64 c0, i64 c1, i64 p0, i64 p1, i64* parts) {
  const Mode mode = mode_of(job.thresholds);
  const auto scan = mode == kPlain   ? &scan_channel<E, kPlain, kContiguous>
                    : mode == kUpper ? &scan_channel<E, kUpper, kContiguous>
                                     : &scan_channel<E, kAll, kContiguous>;
  const i64 block = block_positions<E>(job.view);
  const Runs start(job.view, p0);
  for (i64 c = c0; c < c1; ++c) {
    Partial part = empty_partial();
    scan(job, pivot[c], c, start, p0, p1, block, part);
    store_part(parts, job.part_row, c, part);
  }
}

}  // namespace
}  // namespace fmstats
