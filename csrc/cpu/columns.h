// A vector of channels at a time, walking down the positions: channels_last, (N, T, C), (N, C).
//
// The arithmetic is that of rows.h with lanes standing for channels. A block is at most kBlockSteps
// positions; two vectors of channels stay in registers while the block's positions pass, then their
// sums are added to float64 accumulators in memory. Lanes whose sum of squares is not finite are
// dropped from the block and read again exactly.
//
// The last vector of a tile overlaps the one before it; lanes that it repeats are never read out.
#pragma once

#include "exact.h"
#include "rows.h"

namespace fmstats {
namespace {

constexpr i64 kColumnTile = 512;  // channels whose accumulators a task keeps: about 20 KB

template <class E, bool kBounded>
class ColumnTile {
  typedef typename E::Real Real;
  typedef typename E::Storage Storage;
  typedef typename Vec<Real>::type V;
  typedef typename Vec<Real>::mask M;
  typedef typename Vec<Real>::lane_int Int;
  static constexpr int kWidth = kLanes<Real>;

 public:
  // Channels [c0, c1) of at least kWidth channels in all.
  ColumnTile(const Job& job, i64 c0, i64 c1)
      : job_(job), c0_(c0), c1_(c1), slots_((c1 - c0 + kWidth - 1) / kWidth) {
    const Real inf = static_cast<Real>(infinity());
    for (i64 i = 0; i < slots_ * kWidth; ++i) {
      sum_[i] = sum_sq_[i] = 0.0;
      min_[i] = inf;
      max_[i] = -inf;
      zeros_[i] = low_[i] = high_[i] = 0;
      pivot_[i] = static_cast<Real>(job.pivot[channel_of(i)]);
    }
  }

  // Fold positions [p0, p0 + n), n <= kBlockSteps, that lie at offsets[] from each channel's first.
  void fold_block(const i64* offsets, int n, i64 p0, Partial* parts) {
    i64 slot = 0;
    for (; slot + 2 <= slots_; slot += 2) fold_slots<2>(slot, offsets, n, p0, parts);
    if (slot < slots_) fold_slots<1>(slot, offsets, n, p0, parts);
  }

  void finish(Partial* parts) const {
    for (i64 c = c0_; c < c1_; ++c) {
      const i64 i = lane_of(c);
      Partial& part = parts[c - c0_];
      part.sum += sum_[i];
      part.sum_sq += sum_sq_[i];
      part.min = smaller(part.min, static_cast<double>(min_[i]));
      part.max = larger(part.max, static_cast<double>(max_[i]));
      part.zeros += zeros_[i];
      part.sat_low += low_[i];
      part.sat_high += high_[i];
    }
  }

 private:
  i64 first_channel(i64 slot) const {
    const i64 c = c0_ + slot * kWidth;
    return slot == slots_ - 1 ? c1_ - kWidth < 0 ? 0 : c1_ - kWidth : c;
  }
  i64 channel_of(i64 lane) const { return first_channel(lane / kWidth) + lane % kWidth; }
  i64 lane_of(i64 c) const {
    const i64 slot = (c - c0_) / kWidth;
    return slot * kWidth + (c - first_channel(slot));
  }

  template <int kSlots>
  void fold_slots(i64 slot, const i64* offsets, int n, i64 p0, Partial* parts) {
    const auto* data = static_cast<const Storage*>(job_.view.data);
    const V tol = splat<V>(static_cast<Real>(job_.thresholds.zero_tol));
    const V low = splat<V>(static_cast<Real>(job_.thresholds.low));
    const V high = splat<V>(static_cast<Real>(job_.thresholds.high));
    const Storage* from[kSlots];
    V pivot[kSlots], sum[kSlots], sum_sq[kSlots], min[kSlots], max[kSlots];
    M zeros[kSlots], lows[kSlots], highs[kSlots];
    for (int s = 0; s < kSlots; ++s) {
      const i64 i = (slot + s) * kWidth;
      from[s] = data + first_channel(slot + s);
      pivot[s] = load_unaligned<V>(pivot_ + i);
      min[s] = load_unaligned<V>(min_ + i);
      max[s] = load_unaligned<V>(max_ + i);
      sum[s] = sum_sq[s] = V{};
      zeros[s] = lows[s] = highs[s] = M{};
    }
    for (int r = 0; r < n; ++r) {
      for (int s = 0; s < kSlots; ++s) {
        const V x = E::vector(from[s] + offsets[r]);
        const V d = x - pivot[s];
        sum[s] += d;
        sum_sq[s] = fma(d, d, sum_sq[s]);
        min[s] = keep_min(x, min[s]);
        max[s] = keep_max(x, max[s]);
        zeros[s] -= absolute(x) <= tol;
        if constexpr (kBounded) {
          lows[s] -= x <= low;
          highs[s] -= x >= high;
        }
      }
    }
    for (int s = 0; s < kSlots; ++s) {
      const i64 i = (slot + s) * kWidth;
      add_to(zeros_ + i, zeros[s]);
      if constexpr (kBounded) {
        add_to(low_ + i, lows[s]);
        add_to(high_ + i, highs[s]);
      }
      if (any_non_finite(sum_sq[s])) {
        reread(slot + s, sum[s], sum_sq[s], min[s], max[s], n, p0, parts);
      }
      for (int l = 0; l < kWidth; ++l) {
        sum_[i + l] += static_cast<double>(sum[s][l]);
        sum_sq_[i + l] += static_cast<double>(sum_sq[s][l]);
      }
      __builtin_memcpy(min_ + i, &min[s], sizeof(V));
      __builtin_memcpy(max_ + i, &max[s], sizeof(V));
    }
  }

  // Drop the block from the lanes that are not finite and read their channels exactly.
  void reread(i64 slot, V& sum, V& sum_sq, V& min, V& max, int n, i64 p0, Partial* parts) const {
    const Real inf = static_cast<Real>(infinity());
    for (int l = 0; l < kWidth; ++l) {
      if (sum_sq[l] < inf) continue;  // false for NaN too
      const i64 lane = slot * kWidth + l, c = channel_of(lane);
      sum[l] = sum_sq[l] = 0;
      min[l] = min_[lane];
      max[l] = max_[lane];
      if (lane_of(c) == lane && c >= c0_) {
        scan_moments_exactly<E>(job_.view, c, p0, p0 + n, job_.pivot[c], parts[c - c0_]);
      }
    }
  }

  static void add_to(Int* counts, M more) {
    const M sum = load_unaligned<M>(counts) + more;
    __builtin_memcpy(counts, &sum, sizeof sum);
  }

  const Job& job_;
  const i64 c0_, c1_, slots_;
  static constexpr i64 kMost = kColumnTile + kWidth;
  double sum_[kMost], sum_sq_[kMost];
  Real pivot_[kMost], min_[kMost], max_[kMost];
  Int zeros_[kMost], low_[kMost], high_[kMost];
};

template <class E, bool kBounded>
void scan_column_tile(const Job& job, i64 c0, i64 c1, i64 p0, i64 p1, Partial* parts) {
  ColumnTile<E, kBounded> tile(job, c0, c1);
  Runs runs(job.view, p0);
  const i64 step = job.view.stride[job.view.dim_count - 1];
  i64 offsets[kBlockSteps];
  while (p0 < p1) {
    const int n = static_cast<int>(p1 - p0 < kBlockSteps ? p1 - p0 : kBlockSteps);
    for (int filled = 0; filled < n;) {
      const i64 more = runs.left() < n - filled ? runs.left() : n - filled;
      for (i64 i = 0; i < more; ++i) offsets[filled + i] = runs.offset() + i * step;
      runs.advance(more);
      filled += static_cast<int>(more);
    }
    tile.fold_block(offsets, n, p0, parts);
    p0 += n;
  }
  tile.finish(parts);
}

template <class E>
void scan_columns(const Job& job, i64 c0, i64 c1, i64 p0, i64 p1, Partial* parts) {
  if (job.view.channels <
      kLanes<typename E::Real>) {  // less than a vector: nothing to overlap with
    scan_rows<E, false>(job, c0, c1, p0, p1, parts);
  } else if (has_bounds(job.thresholds)) {
    scan_column_tile<E, true>(job, c0, c1, p0, p1, parts);
  } else {
    scan_column_tile<E, false>(job, c0, c1, p0, p1, parts);
  }
}

}  // namespace
}  // namespace fmstats
