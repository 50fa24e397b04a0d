// A vector of channels at a time, walking down the positions: channels_last, (N, T, C), (N, C).
//
// A block is at most kBlockSteps positions; two vectors of channels stay in registers while the
// block's positions pass, then their sums are added to float64 accumulators in memory. Lanes whose
// sum of squares is not finite are dropped from the block and read again exactly. Walking down two
// vectors of a row defeats the processor's own prefetching, so each block fetches the next one.
//
// The last vector of a tile overlaps the one before it; lanes that it repeats are never read out.
#pragma once

#include "blocks.h"
#include "exact.h"
#include "rows.h"

namespace fmstats {
namespace {

template <class E, Mode kMode>
class ColumnTile {
  typedef typename E::Real Real;
  typedef typename E::Storage Storage;
  typedef typename Vec<Real>::type V;
  typedef typename Vec<Real>::mask M;
  typedef typename Vec<Real>::lane_int Int;
  static constexpr int kWidth = kLanes<Real>;

 public:
  // Channels [c0, c1) of a tensor of at least kWidth channels.
  ColumnTile(const Job& job, const double* pivot, i64 c0, i64 c1, i64* parts)
      : job_(job),
        exact_pivot_(pivot),
        parts_(parts),
        limits_(job.thresholds),
        c0_(c0),
        c1_(c1),
        slots_((c1 - c0 + kWidth - 1) / kWidth) {
    clear_parts(parts, job.part_row, c0, c1);
#define FMSTATS_ZERO(name, ...) name##_[i] = 0;
#define FMSTATS_EXTREME(name, Name, join, side) name##_[i] = static_cast<Real>(side infinity());
    for (i64 i = 0; i < slots_ * kWidth; ++i) {
      FMSTATS_PART_SUMS(FMSTATS_ZERO)
      FMSTATS_COMPARISONS(FMSTATS_ZERO)
      FMSTATS_EXTREMES(FMSTATS_EXTREME)
      pivot_[i] = static_cast<Real>(pivot[channel_of(i)]);
    }
#undef FMSTATS_ZERO
#undef FMSTATS_EXTREME
  }

  // Add the positions of a block, and fetch those of the next.
  void take_block(const Block& block, const Block& next) {
    const auto* data = static_cast<const Storage*>(job_.view.data);
    Fetch<Storage> fetch(data + first_channel(0), c1_ - first_channel(0), next);
    i64 slot = 0;
    for (; slot + 2 <= slots_; slot += 2) take_slots<2>(slot, block, fetch);
    if (slot < slots_) take_slots<1>(slot, block, fetch);
  }

  void finish() const {
    const i64 whole = (slots_ - 1) * kWidth;  // the last slot may repeat channels of the one before
    write(c0_, 0, whole);
    write(c0_ + whole, lane_of(c0_ + whole), c1_ - c0_ - whole);
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

  // Add lanes [lane, lane + n) to the parts of channels [c, c + n).
  void write(i64 c, i64 lane, i64 n) const {
    const i64 row = job_.part_row;
    i64* words = parts_ + c;
    double* reals = reinterpret_cast<double*>(words);
#define FMSTATS_COUNT(name, Name, Mode)                                            \
  if constexpr (kMode >= k##Mode) {                                                \
    for (i64 i = 0; i < n; ++i) words[kPart##Name * row + i] += name##_[lane + i]; \
  }
#define FMSTATS_SUM(name, Name, ...) \
  for (i64 i = 0; i < n; ++i) reals[kPart##Name * row + i] += name##_[lane + i];
#define FMSTATS_EXTREME(name, Name, join, ...)                 \
  for (i64 i = 0; i < n; ++i) {                                \
    double& kept = reals[kPart##Name * row + i];               \
    kept = join(kept, static_cast<double>(name##_[lane + i])); \
  }
    FMSTATS_COMPARISONS(FMSTATS_COUNT)
    FMSTATS_PART_SUMS(FMSTATS_SUM)
    FMSTATS_EXTREMES(FMSTATS_EXTREME)
#undef FMSTATS_COUNT
#undef FMSTATS_SUM
#undef FMSTATS_EXTREME
  }

  template <int kSlots>
  void take_slots(i64 slot, const Block& block, Fetch<Storage>& fetch) {
    const auto* data = static_cast<const Storage*>(job_.view.data);
    const Storage* from[kSlots];
    V pivot[kSlots];
    Lanes<Real> lanes[kSlots];
    Sums<Real> sums[kSlots];
    for (int s = 0; s < kSlots; ++s) {
      const i64 i = (slot + s) * kWidth;
      from[s] = data + first_channel(slot + s);
      pivot[s] = load_unaligned<V>(pivot_ + i);
#define FMSTATS_EXTREME(name, ...) lanes[s].name = load_unaligned<V>(name##_ + i);
      FMSTATS_EXTREMES(FMSTATS_EXTREME)
#undef FMSTATS_EXTREME
    }
    constexpr int kLines = kSlots * kWidth * static_cast<int>(sizeof(Storage)) / kLineBytes;
    for (int r = 0; r < block.size;) {
      Sums<Real> pair[kSlots];
      const int pair_end = smaller(block.size, r + 2 * kChain);
      while (r < pair_end) {
        Sums<Real> chain[kSlots];
        const auto take_position = [&](bool is_first) {
          for (int line = 0; line < (kLines > 0 ? kLines : 1); ++line) fetch.next_line();
          for (int s = 0; s < kSlots; ++s) {
            const V x = E::vector(from[s] + block.offset[r]);
            if (is_first) {
              take<kMode, true>(lanes[s], chain[s], limits_, pivot[s], x);
            } else {
              take<kMode>(lanes[s], chain[s], limits_, pivot[s], x);
            }
          }
          ++r;
        };
        take_position(true);
        if (r + kChain - 1 <= block.size) {
          for (int i = 1; i < kChain; ++i) take_position(false);
        } else {
          while (r < block.size) take_position(false);
        }
        for (int s = 0; s < kSlots; ++s) pair[s].join(chain[s]);
      }
      for (int s = 0; s < kSlots; ++s) sums[s].join(pair[s]);
    }
    for (int s = 0; s < kSlots; ++s) {
      const i64 i = (slot + s) * kWidth;
#define FMSTATS_COUNT(name, Name, Mode) \
  if constexpr (kMode >= k##Mode) add_to(name##_ + i, lanes[s].name);
#define FMSTATS_SUM(name, ...) add_lanes(sums[s].name, name##_ + i);
#define FMSTATS_EXTREME(name, ...) __builtin_memcpy(name##_ + i, &lanes[s].name, sizeof(V));
      FMSTATS_COMPARISONS(FMSTATS_COUNT)
#define FMSTATS_OR_NOT(name, ...) || any_non_finite(sums[s].name)
      if (any_non_finite(sums[s].sum_sq) FMSTATS_SUMS(FMSTATS_OR_NOT)) {
        reread(slot + s, lanes[s], sums[s], block);
      }
#undef FMSTATS_OR_NOT
      FMSTATS_PART_SUMS(FMSTATS_SUM)
      FMSTATS_EXTREMES(FMSTATS_EXTREME)
#undef FMSTATS_COUNT
#undef FMSTATS_SUM
#undef FMSTATS_EXTREME
    }
  }

  // Drop the block from the lanes that are not finite and read their channels exactly.
  void reread(i64 slot, Lanes<Real>& lanes, Sums<Real>& sums, const Block& block) const {
    const Real inf = static_cast<Real>(infinity());
    for (int l = 0; l < kWidth; ++l) {
#define FMSTATS_AND(name, ...) &&sums.name[l] < inf && -sums.name[l] < inf
      if (sums.sum_sq[l] < inf FMSTATS_SUMS(FMSTATS_AND)) continue;  // false for NaN too
#undef FMSTATS_AND
      const i64 lane = slot * kWidth + l, c = channel_of(lane);
#define FMSTATS_SUM(name, ...) sums.name[l] = 0;
#define FMSTATS_EXTREME(name, ...) lanes.name[l] = name##_[lane];
      FMSTATS_PART_SUMS(FMSTATS_SUM)
      FMSTATS_EXTREMES(FMSTATS_EXTREME)
#undef FMSTATS_SUM
#undef FMSTATS_EXTREME
      if (c < c0_ || lane_of(c) != lane) continue;  // a repeated channel
      Partial part = load_part<i64>(parts_, job_.part_row, c);
      scan_moments_exactly<E>(job_.view, c, block.p0, block.p0 + block.size, exact_pivot_[c], part);
      store_part(parts_, job_.part_row, c, part);
    }
  }

  static void add_to(Int* counts, M more) {
    const M sum = load_unaligned<M>(counts) + more;
    __builtin_memcpy(counts, &sum, sizeof sum);
  }

  const Job& job_;
  const double* const exact_pivot_;
  i64* const parts_;
  const Limits<Real> limits_;
  const i64 c0_, c1_, slots_;
  static constexpr i64 kMost = kColumnTile + kWidth;
  Real pivot_[kMost];
#define FMSTATS_SUM(name, ...) double name##_[kMost];
#define FMSTATS_EXTREME(name, ...) Real name##_[kMost];
#define FMSTATS_COUNT(name, ...) Int name##_[kMost];
  FMSTATS_PART_SUMS(FMSTATS_SUM)
  FMSTATS_EXTREMES(FMSTATS_EXTREME)
  FMSTATS_COMPARISONS(FMSTATS_COUNT)
#undef FMSTATS_SUM
#undef FMSTATS_EXTREME
#undef FMSTATS_COUNT
};

template <class E, Mode kMode>
void scan_column_tile(const Job& job, const double* pivot, i64 c0, i64 c1, i64 p0, i64 p1,
                      i64* parts) {
  ColumnTile<E, kMode> tile(job, pivot, c0, c1, parts);
  Blocks blocks(job.view, p0, p1);
  Block pair[2];
  blocks.next(pair[0]);
  for (int now = 0; pair[now].size > 0; now = 1 - now) {
    blocks.next(pair[1 - now]);
    tile.take_block(pair[now], pair[1 - now]);
  }
  tile.finish();
}

template <class E>
void scan_columns(const Job& job, const double* pivot, i64 c0, i64 c1, i64 p0, i64 p1, i64* parts) {
  if (job.view.channels <
      kLanes<typename E::Real>) {  // less than a vector: nothing to overlap with
    scan_rows<E, false>(job, pivot, c0, c1, p0, p1, parts);
    return;
  }
  const auto scan = choose_by_mode<kVariantsOf<E>>(
      job.mode, [](auto mode) { return &scan_column_tile<E, mode.value>; });
  scan(job, pivot, c0, c1, p0, p1, parts);
}

}  // namespace
}  // namespace fmstats
