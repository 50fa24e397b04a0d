// One channel at a time along runs of positions: NCHW (the run is contiguous), and, with a gather
// in place of the load, any strides at all.
//
// A block is a stretch of positions that adds at most kBlockSteps vectors to each of two chains of
// lanes. A block that is not finite is dropped, its minimum and maximum rolled back, and read again
// exactly. What is left of a run below a vector waits in `pending_` for the next run.
#pragma once

#include "exact.h"
#include "lanes.h"

namespace fmstats {
namespace {

template <class E, Mode kMode>
class RowSums {
  typedef typename E::Real Real;
  typedef typename E::Storage Storage;
  typedef typename Vec<Real>::type V;
  static constexpr int kWidth = kLanes<Real>;

 public:
  static constexpr i64 kBlock = i64{2} * kBlockSteps * kWidth;

  RowSums(double pivot, const Thresholds& t)
      : limits_(t), pivot_(splat<V>(static_cast<Real>(pivot))) {}

  void begin_block() {
    for (int i = 0; i < 2; ++i) {
      chain_[i].sum = chain_[i].sum_sq = V{};
      kept_min_[i] = chain_[i].min;
      kept_max_[i] = chain_[i].max;
    }
  }

  // Fold n elements that lie `step` apart (1 where kContiguous).
  template <bool kContiguous>
  void scan(const Storage* p, i64 n, i64 step) {
    Lanes<Real> a = chain_[0], b = chain_[1];
    for (; n >= 2 * kWidth; n -= 2 * kWidth) {
      take<kMode>(a, limits_, pivot_, load<kContiguous>(p, step));
      take<kMode>(b, limits_, pivot_, load<kContiguous>(p + kWidth * step, step));
      p += 2 * kWidth * step;
    }
    if (n >= kWidth) {
      take<kMode>(a, limits_, pivot_, load<kContiguous>(p, step));
      p += kWidth * step;
      n -= kWidth;
    }
    if (n > 0) {
      for (i64 i = 0; i < n; ++i) pending_[waiting_ + i] = p[i * step];
      waiting_ += static_cast<int>(n);
      if (waiting_ >= kWidth) {
        take<kMode>(b, limits_, pivot_, E::vector(pending_));
        waiting_ -= kWidth;
        for (int i = 0; i < waiting_; ++i) pending_[i] = pending_[kWidth + i];
      }
    }
    chain_[0] = a;
    chain_[1] = b;
  }

  // False where the block held something not finite: then its moments are dropped.
  bool end_block() {
    if (waiting_ > 0) {
      for (int i = waiting_; i < kWidth; ++i) pending_[i] = pending_[0];
      const auto fresh = ~lanes_from(waiting_, V{});
      take_some<kMode>(chain_[1], limits_, pivot_, E::vector(pending_), fresh);
      waiting_ = 0;
    }
    const V sum_sq = chain_[0].sum_sq + chain_[1].sum_sq;
    if (any_non_finite(sum_sq)) {
      for (int i = 0; i < 2; ++i) {
        chain_[i].min = kept_min_[i];
        chain_[i].max = kept_max_[i];
      }
      return false;
    }
    add_lanes(chain_[0].sum + chain_[1].sum, sum_);
    add_lanes(sum_sq, sum_sq_);
    return true;
  }

  void finish(Partial& part) {
    const Lanes<Real>&a = chain_[0], &b = chain_[1];
    part.sum += reduce(sum_, add<double>);
    part.sum_sq += reduce(sum_sq_, add<double>);
    part.min =
        smaller(part.min, static_cast<double>(across(keep_min(a.min, b.min), smaller<Real>)));
    part.max = larger(part.max, static_cast<double>(across(keep_max(a.max, b.max), larger<Real>)));
    typedef typename Vec<Real>::lane_int Int;
    part.zeros += across(a.zeros + b.zeros, add<Int>);
    if constexpr (kMode == kAll) part.sat_low += across(a.low + b.low, add<Int>);
    if constexpr (kMode != kPlain) part.sat_high += across(a.high + b.high, add<Int>);
  }

 private:
  template <bool kContiguous>
  static V load(const Storage* p, i64 step) {
    if constexpr (kContiguous) {
      return E::vector(p);
    } else {
      Storage gathered[kWidth];
      for (int i = 0; i < kWidth; ++i) gathered[i] = p[i * step];
      return E::vector(gathered);
    }
  }

  template <class T>
  static T add(T a, T b) {
    return a + b;
  }

  // Combine the lanes by halves.
  template <class T, class Combine>
  static T reduce(T* lanes, Combine combine) {
    for (int half = kWidth / 2; half > 0; half /= 2) {
      for (int i = 0; i < half; ++i) lanes[i] = combine(lanes[i], lanes[i + half]);
    }
    return lanes[0];
  }
  template <class Vector, class T>
  static T across(Vector v, T (*combine)(T, T)) {
    T lanes[kWidth];
    __builtin_memcpy(lanes, &v, sizeof v);
    return reduce(lanes, combine);
  }

  const Limits<Real> limits_;
  const V pivot_;
  Lanes<Real> chain_[2];  // two, to hide the latency of the additions
  V kept_min_[2], kept_max_[2];
  double sum_[kWidth] = {}, sum_sq_[kWidth] = {};
  Storage pending_[2 * kWidth];
  int waiting_ = 0;
};

template <class E, Mode kMode, bool kContiguous>
void scan_channel(const Job& job, double pivot, i64 channel, i64 p0, i64 p1, Partial& part) {
  typedef RowSums<E, kMode> Sums;
  const View& view = job.view;
  const i64 run = view.size[view.dim_count - 1], step = view.stride[view.dim_count - 1];
  // Whole runs a block where they are short.
  const i64 block = run < Sums::kBlock ? Sums::kBlock / run * run : Sums::kBlock;
  const auto* first =
      static_cast<const typename E::Storage*>(view.data) + channel * view.channel_stride;
  Sums sums(pivot, job.thresholds);
  Runs runs(view, p0);
  while (p0 < p1) {
    const i64 start = p0, end = p1 - p0 < block ? p1 : p0 + block;
    sums.begin_block();
    while (p0 < end) {
      const i64 n = runs.left() < end - p0 ? runs.left() : end - p0;
      sums.template scan<kContiguous>(first + runs.offset(), n, kContiguous ? 1 : step);
      runs.advance(n);
      p0 += n;
    }
    if (!sums.end_block()) scan_moments_exactly<E>(view, channel, start, end, pivot, part);
  }
  sums.finish(part);
}

template <class E, bool kContiguous>
void scan_rows(const Job& job, const double* pivot, i64 c0, i64 c1, i64 p0, i64 p1, i64* parts) {
  const Mode mode = mode_of(job.thresholds);
  const auto scan = mode == kPlain   ? &scan_channel<E, kPlain, kContiguous>
                    : mode == kUpper ? &scan_channel<E, kUpper, kContiguous>
                                     : &scan_channel<E, kAll, kContiguous>;
  for (i64 c = c0; c < c1; ++c) {
    Partial part = empty_partial();
    scan(job, pivot[c], c, p0, p1, part);
    store_part(parts, job.view.channels, c, part);
  }
}

}  // namespace
}  // namespace fmstats
