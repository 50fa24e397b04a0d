// Before and after the scans: the pivots of channels, and the fold of their parts into the state.
// Both take a vector of channels at a time, with the formulas of state.h, parts.h and reread.h: at
// 256 channels a call this costs as much as reading a small tensor.
#pragma once

#include "../reread.h"
#include "exact.h"

namespace fmstats {

namespace {

// Where to look for first pivots: elements from the first one of any channel. To find a place takes
// longer than to read what is there.
class Samples {
 public:
  explicit Samples(const MaskedView& view) : view_(view), count_(0) {}

  // The state of a few elements of the channel.
  ChannelState of_channel(i64 channel) {
    if (count_ == 0) find();
    Partial sample = empty_partial();
    with_element(view_.dtype, [&](auto element) {
      typedef decltype(element) E;
      const auto* first =
          static_cast<const typename E::Storage*>(view_.data) + channel * view_.channel_stride;
      for (int i = 0; i < count_; ++i) add_moments(E::one(first[offset_[i]]), 0.0, sample);
    });
    return to_state(sample, i64{count_}, 0.0);
  }

 private:
  void find() {
    const i64 counted = view_.counted;
    count_ = static_cast<int>(counted < kSamples ? counted : kSamples);
    for (int i = 0; i < count_; ++i) offset_[i] = sample_position(i, counted);
    if (view_.numbers != nullptr) find_members();
    for (int i = 0; i < count_; ++i) offset_[i] = Runs(view_, offset_[i]).offset();
  }

  // Turn the numbers of positions among those that count into numbers among all.
  void find_members() {
    for (int i = 1; i < count_; ++i) {  // sorted, to meet them in one walk
      const i64 member = offset_[i];
      int k = i;
      for (; k > 0 && offset_[k - 1] > member; --k) offset_[k] = offset_[k - 1];
      offset_[k] = member;
    }
    i64 member = -1, position = -1;
    for (int i = 0; i < count_; ++i) {
      while (member < offset_[i]) member += is_counted(view_, ++position);
      offset_[i] = position;
    }
  }

  const MaskedView& view_;
  int count_;
  i64 offset_[kSamples];
};

inline void choose_pivots(const Job& job, i64 c0, i64 c1, double* pivot) {
  const bool float32 = job.view.dtype != kFloat64;
  Samples samples(job.view);
  i64 c = c0;
  for (; c + kLanes<double> <= c1; c += kLanes<double>) {
    const auto before = load_state<i64v>(job.state, job.row, c);
    if (any(finite_count(before) == 0)) break;
    Numbers<i64v>::store(pivot + c, pivot_of(before, float32));
  }
  for (; c < c1; ++c) {  // new channels, and the ragged end
    ChannelState s = load_state<i64>(job.state, job.row, c);
    if (finite_count(s) == 0) s = samples.of_channel(c);
    pivot[c] = pivot_of(s, float32);
  }
}

// Make the sums of a part anew, in float64.
inline void sum_again(const Job& job, i64 channel, const Again& again, Partial& part) {
  ExactSum sum = {}, sum_sq = {};
  with_element(job.view.dtype, [&](auto element) {
    visit_channel<decltype(element)>(job.view, channel, 0, position_count(job.view),
                                     [&](double x) { add_again(x, again, sum, sum_sq); });
  });
  part.sum = sum.sum + sum.rest;
  part.sum_sq = sum_sq.sum + sum_sq.rest;
}

template <class Int>
inline PartialOf<Int, typename Numbers<Int>::Real> add_splits(const Job& job, i64 c, i64 splits,
                                                              const i64* parts) {
  const i64 row = job.part_row;
  auto part = load_part<Int>(parts, row, c);
  for (i64 s = 1; s < splits; ++s) {
    add(part, load_part<Int>(parts + s * kPartFields * row, row, c));
  }
  return part;
}

// Note the time in each of channels [c0, c1) to which something came that is no finite number.
inline void note_channels(const Job& job, i64 c0, i64 c1, i64 splits, const Scratch& scratch) {
  for (i64 c = c0; c < c1; ++c) {
    const Partial part = add_splits<i64>(job, c, splits, scratch.parts);
    if (non_finite_count(part) != 0) note_non_finite(job.state, job.row, c, job.clock);
  }
}

// Merge the part of a channel into its state, from sums made anew where these are too coarse.
inline void settle(const Job& job, i64 c, i64 positions, double pivot, Partial part,
                   double smallest, double coarse) {
  if (non_finite_count(part) != 0) note_non_finite(job.state, job.row, c, job.clock);
  const ChannelState before = load_state<i64>(job.state, job.row, c);
  ChannelState batch = to_state(part, positions, pivot);
  if (too_coarse(part, before, batch, smallest, coarse)) {
    const Again again = read_again(part, batch);
    sum_again(job, c, again, part);
    batch = to_state(part, positions, again.pivot, again.unit);
  }
  store_state(job.state, job.row, c, merge(before, batch));
}

inline void fold_one(const Job& job, i64 c, i64 positions, i64 splits, const Scratch& scratch) {
  settle(job, c, positions, scratch.pivot[c], add_splits<i64>(job, c, splits, scratch.parts),
         smallest_square(job.view.dtype != kFloat64), kCoarse);
}

inline void fold_channels(const Job& job, i64 c0, i64 c1, i64 splits, const Scratch& scratch) {
  constexpr int kWidth = kLanes<double>;
  const i64 positions = job.view.counted;
  const double smallest = smallest_square(job.view.dtype != kFloat64);
  i64v differ{};  // from positions: bits of the counts of finite elements
  i64 c = c0;
  for (; c + kWidth <= c1; c += kWidth) {
    const auto part = add_splits<i64v>(job, c, splits, scratch.parts);
    const auto before = load_state<i64v>(job.state, job.row, c);
    const auto batch =
        to_state(part, splat<i64v>(positions), Numbers<i64v>::load(scratch.pivot + c));
    differ |= finite_count(batch) ^ splat<i64v>(positions);
    if (any(too_coarse(part, before, batch, smallest))) {
      for (int l = 0; l < kWidth; ++l) fold_one(job, c + l, positions, splits, scratch);
    } else {
      store_state(job.state, job.row, c, merge(before, batch));
    }
  }
  if (any(differ != 0)) note_channels(job, c0, c, splits, scratch);
  for (; c < c1; ++c) fold_one(job, c, positions, splits, scratch);
}

}  // namespace
}  // namespace fmstats
