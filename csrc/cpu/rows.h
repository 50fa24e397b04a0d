// One channel at a time along runs of positions: NCHW (the run is contiguous), and, with a gather
// in place of the load, any strides at all.
//
// Shifted sums: d = x - pivot, sum += d, sum_sq += d * d, in lanes of float32 that take at most
// kBlockSteps + 1 terms before they are added to float64 lanes. A finite sum_sq proves that the
// block held no NaN, no infinity and no overflow; otherwise the block alone is read again exactly.
// Minimum and maximum ignore NaN by operand order and are rolled back to the block's start if it
// was bad. Threshold counts are right for every value at once.
//
// The last vector of a run overlaps the one before it, with the lanes already seen masked out of
// sums and counts; a run shorter than a vector is copied into one.
#pragma once

#include "exact.h"

namespace fmstats {
namespace {

constexpr int kBlockSteps = 32;  // float32 additions a lane: error <= 32 * 2^-25 of the sum

template <class E, bool kBounded>
class RowLanes {
  typedef typename E::Real Real;
  typedef typename E::Storage Storage;
  typedef typename Vec<Real>::type V;
  typedef typename Vec<Real>::mask M;
  static constexpr int kWidth = kLanes<Real>;

 public:
  static constexpr i64 kBlock = i64{2} * kBlockSteps * kWidth;

  RowLanes(double pivot, const Thresholds& t)
      : pivot_(splat<V>(static_cast<Real>(pivot))),
        tol_(splat<V>(static_cast<Real>(t.zero_tol))),
        low_(splat<V>(static_cast<Real>(t.low))),
        high_(splat<V>(static_cast<Real>(t.high))) {
    const Real inf = static_cast<Real>(infinity());
    for (Chain& c : chain_) c = {V{}, V{}, splat<V>(inf), splat<V>(-inf)};
  }

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
    Chain a = chain_[0], b = chain_[1];
    Counts k = counts_;
    const i64 all = n;
    for (; n >= 2 * kWidth; n -= 2 * kWidth) {
      take(a, k, load<kContiguous>(p, step));
      take(b, k, load<kContiguous>(p + kWidth * step, step));
      p += 2 * kWidth * step;
    }
    if (n >= kWidth) {
      take(a, k, load<kContiguous>(p, step));
      p += kWidth * step;
      n -= kWidth;
    }
    if (n > 0) {
      const int seen = kWidth - static_cast<int>(n);
      if (all >= kWidth) {
        take_from(b, k, load<kContiguous>(p - seen * step, step), seen);
      } else {
        Storage padded[kWidth];
        for (int i = 0; i < kWidth; ++i) padded[i] = p[i < seen ? 0 : (i - seen) * step];
        take_from(b, k, E::vector(padded), seen);
      }
    }
    chain_[0] = a;
    chain_[1] = b;
    counts_ = k;
  }

  // False where the block holds something not finite: then its moments are dropped.
  bool end_block() {
    if (any_non_finite(chain_[0].sum_sq + chain_[1].sum_sq)) {
      for (int i = 0; i < 2; ++i) {
        chain_[i].min = kept_min_[i];
        chain_[i].max = kept_max_[i];
      }
      return false;
    }
    add_lanes(chain_[0].sum + chain_[1].sum, total_sum_);
    add_lanes(chain_[0].sum_sq + chain_[1].sum_sq, total_sq_);
    return true;
  }

  void finish(Partial& part) const {
    const V min = keep_min(chain_[0].min, chain_[1].min);
    const V max = keep_max(chain_[0].max, chain_[1].max);
    for (int i = 0; i < kWidth; ++i) {
      part.sum += total_sum_[i];
      part.sum_sq += total_sq_[i];
      part.min = smaller(part.min, static_cast<double>(min[i]));
      part.max = larger(part.max, static_cast<double>(max[i]));
      part.zeros += counts_.zeros[i];
      part.sat_low += counts_.low[i];
      part.sat_high += counts_.high[i];
    }
  }

 private:
  struct Chain {  // two of them hide the latency of the additions
    V sum, sum_sq, min, max;
  };
  struct Counts {
    M zeros{}, low{}, high{};
  };

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

  void take(Chain& c, Counts& k, V x) const {
    const V d = x - pivot_;
    c.sum += d;
    c.sum_sq = fma(d, d, c.sum_sq);
    c.min = keep_min(x, c.min);
    c.max = keep_max(x, c.max);
    k.zeros -= absolute(x) <= tol_;
    if constexpr (kBounded) {
      k.low -= x <= low_;
      k.high -= x >= high_;
    }
  }

  // As take(), for the lanes from `seen` on; the others hold elements that belong to this channel
  // and are or will be counted elsewhere, so they may enter min and max.
  void take_from(Chain& c, Counts& k, V x, int seen) const {
    const M fresh = lanes_from(seen, V{});
    const V d = (V)((M)(x - pivot_) & fresh);
    c.sum += d;
    c.sum_sq = fma(d, d, c.sum_sq);
    c.min = keep_min(x, c.min);
    c.max = keep_max(x, c.max);
    k.zeros -= (absolute(x) <= tol_) & fresh;
    if constexpr (kBounded) {
      k.low -= (x <= low_) & fresh;
      k.high -= (x >= high_) & fresh;
    }
  }

  static void add_lanes(V lanes, double* totals) {
    for (int i = 0; i < kWidth; ++i) totals[i] += static_cast<double>(lanes[i]);
  }

  const V pivot_, tol_, low_, high_;
  Chain chain_[2];
  Counts counts_;
  V kept_min_[2], kept_max_[2];
  double total_sum_[kWidth] = {}, total_sq_[kWidth] = {};
};

template <class E, bool kBounded, bool kContiguous>
void scan_channel_rows(const Job& job, i64 channel, i64 p0, i64 p1, Partial& part) {
  typedef RowLanes<E, kBounded> Lanes;
  const View& view = job.view;
  const i64 run = view.size[view.dim_count - 1], step = view.stride[view.dim_count - 1];
  // Whole runs a block where they are short: fewer ragged ends.
  const i64 block = run < Lanes::kBlock ? Lanes::kBlock / run * run : Lanes::kBlock;
  const auto* first =
      static_cast<const typename E::Storage*>(view.data) + channel * view.channel_stride;
  Lanes lanes(job.pivot[channel], job.thresholds);
  Runs runs(view, p0);
  while (p0 < p1) {
    const i64 start = p0, end = p1 - p0 < block ? p1 : p0 + block;
    lanes.begin_block();
    while (p0 < end) {
      const i64 n = runs.left() < end - p0 ? runs.left() : end - p0;
      lanes.template scan<kContiguous>(first + runs.offset(), n, kContiguous ? 1 : step);
      runs.advance(n);
      p0 += n;
    }
    if (!lanes.end_block())
      scan_moments_exactly<E>(view, channel, start, end, job.pivot[channel], part);
  }
  lanes.finish(part);
}

inline bool has_bounds(const Thresholds& t) {
  return t.low == t.low || t.high == t.high;
}

template <class E, bool kContiguous>
void scan_rows(const Job& job, i64 c0, i64 c1, i64 p0, i64 p1, Partial* parts) {
  const auto scan = has_bounds(job.thresholds) ? &scan_channel_rows<E, true, kContiguous>
                                               : &scan_channel_rows<E, false, kContiguous>;
  for (i64 c = c0; c < c1; ++c) scan(job, c, p0, p1, parts[c - c0]);
}

}  // namespace
}  // namespace fmstats
