// What is measured on request: power sums and histograms, of a part of a tensor that the scan of
// all else has just brought into the cache. So memory is read once, and no other kernel has a word
// of it in its loops.
#pragma once

#include "blocks.h"
#include "tally.h"

namespace fmstats {
namespace {

// Sums of a vector of float64 each, about one pivot or about one of each lane. Powers stay 0 where
// nobody asked for them.
template <bool kPowers>
struct PowerLanes : PowerSumsOf<f64v> {
  PowerLanes() : PowerSumsOf<f64v>{} {}

  // Add the lanes that are finite. Always inline: a call would bring every sum to memory and back.
  FMSTATS_MEMBER void take(f64v x, f64v pivot) {
    const i64v finite = absolute(x) < infinity();
    count += (f64v)((i64v)(f64v{} + 1.0) & finite);
    magnitudes += (f64v)((i64v)absolute(x) & finite);
    if constexpr (!kPowers) return;
    const f64v d = (f64v)((i64v)(x - pivot) & finite), square = d * d;
    first += d;
    second += square;
    third = fma(square, d, third);
    fourth = fma(square, square, fourth);
  }

  // The sums of all lanes, added up.
  PowerSums across_lanes() const {
    const auto plus = [](auto x, auto y) { return x + y; };
    return {across(count, plus),  across(magnitudes, plus), across(first, plus),
            across(second, plus), across(third, plus),      across(fourth, plus)};
  }
};

inline void store_powers(double* powers, i64 row, i64 channel, const PowerSums& sums) {
  double words[kPowerSums];
  __builtin_memcpy(words, &sums, sizeof sums);
  for (int i = 0; i < kPowerSums; ++i) powers[i * row + channel] = words[i];
}

inline PowerSums load_powers(const double* powers, i64 row, i64 channel) {
  double words[kPowerSums];
  for (int i = 0; i < kPowerSums; ++i) words[i] = powers[i * row + channel];
  PowerSums sums;
  __builtin_memcpy(&sums, words, sizeof sums);
  return sums;
}

// The power sums of one channel.
template <class E, bool kPowers>
PowerSums channel_powers(const MaskedView& view, double pivot, i64 channel, i64 p0, i64 p1) {
  typedef typename E::Real Real;
  constexpr int kWidth = kLanes<Real>;
  PowerLanes<kPowers> low, high;
  PowerSums rest = {};
  const f64v about = splat<f64v>(pivot);
  visit_stretches<E>(view, channel, p0, p1, [&](const typename E::Storage* p, i64 n) {
    const auto many = [&](auto x) __attribute__((always_inline)) {
      low.take(wide<0>(x), about);
      if constexpr (kWidth > kLanes<double>) high.take(wide<1>(x), about);
    };
    const auto two = [&](auto x, auto y) {
      many(x);
      many(y);
    };
    visit_vectors<E>(p, n, two, many, [&](auto x) { add_powers(E::one(x), pivot, rest); });
  });
  PowerSums sums = low.across_lanes();
  add(sums, high.across_lanes());
  add(sums, rest);
  return sums;
}

// The power sums of a vector of channels that lie one after the other, of which the first `keep`
// are new.
template <class E, bool kPowers>
void column_powers(const Job& job, const double* pivot, i64 c, i64 keep, i64 p0, i64 p1,
                   double* powers) {
  typedef typename E::Real Real;
  constexpr int kWidth = kLanes<Real>;
  const auto* first = static_cast<const typename E::Storage*>(job.view.data) + c;
  const f64v about = load_unaligned<f64v>(pivot + c);
  const f64v about_2 = load_unaligned<f64v>(pivot + c + kWidth - kLanes<double>);
  PowerLanes<kPowers> low, high;
  Blocks blocks(job.view, p0, p1);
  Block block;
  for (blocks.next(block); block.size > 0; blocks.next(block)) {
    for (int r = 0; r < block.size; ++r) {
      const auto* p = first + block.offset[r];
      const auto x = E::vector(p);
      low.take(wide_from<0, E>(p, x), about);
      if constexpr (kWidth > kLanes<double>) high.take(wide_from<1, E>(p, x), about_2);
    }
  }
  double words[2][kPowerSums][kLanes<double>];
  __builtin_memcpy(words[0], static_cast<PowerSumsOf<f64v>*>(&low), sizeof words[0]);
  __builtin_memcpy(words[1], static_cast<PowerSumsOf<f64v>*>(&high), sizeof words[1]);
  for (i64 lane = kWidth - keep; lane < kWidth; ++lane) {
    const i64 half = lane / kLanes<double>, at = lane % kLanes<double>;
    for (int i = 0; i < kPowerSums; ++i) powers[i * job.part_row + c + lane] = words[half][i][at];
  }
}

template <class E, bool kPowers>
void measure_sums(const Job& job, const double* pivot, i64 c0, i64 c1, i64 p0, i64 p1,
                  double* powers) {
  constexpr i64 kWidth = kLanes<typename E::Real>;
  i64 c = c0;
  if (job.view.channel_stride == 1 && c1 - c0 >= kWidth) {
    for (; c + kWidth <= c1; c += kWidth)
      column_powers<E, kPowers>(job, pivot, c, kWidth, p0, p1, powers);
    if (c < c1) column_powers<E, kPowers>(job, pivot, c1 - kWidth, c1 - c, p0, p1, powers);
    return;
  }
  for (; c < c1; ++c) {
    const PowerSums sums = channel_powers<E, kPowers>(job.view, pivot[c], c, p0, p1);
    store_powers(powers, job.part_row, c, sums);
  }
}

inline Histogram histogram_of(const Job& job, i64 channel) {
  const int words = 2 * bins_of_sign(job.requested.resolution);
  i64* counts = job.requested.bins + (job.requested.per_channel != 0 ? channel * words : 0);
  return {counts, words, job.shared};
}

template <class E>
void tally_part(const Job& job, i64 c0, i64 c1, i64 p0, i64 p1, Tally& tally) {
  const MaskedView& view = job.view;
  const int resolution = job.requested.resolution;
  const BinRule rule(resolution);
  if (job.requested.per_channel == 0 && view.channel_stride == 1 && view.numbers == nullptr) {
    const Histogram to = histogram_of(job, 0);
    const auto* first = static_cast<const typename E::Storage*>(view.data) + c0;
    Blocks blocks(view, p0, p1);
    Block block;
    for (blocks.next(block); block.size > 0; blocks.next(block)) {
      for (int r = 0; r < block.size; ++r) {
        tally_stretch<E>(tally, rule, resolution, to, first + block.offset[r], c1 - c0);
      }
    }
    return;
  }
  if (view.channel_stride == 1 && c1 - c0 > 1 && view.numbers == nullptr) {
    constexpr i64 kWidth = kLanes<typename E::Real>;
    for (i64 c = c0; c < c1; c += kWidth) {
      const i64 count = c1 - c < kWidth ? c1 - c : kWidth;
      visit_columns<E>(view, c, count, p0, p1,
                       [&](i64 channel, const typename E::Storage* p, i64 n) {
                         const Histogram to = histogram_of(job, channel);
                         tally_stretch<E>(tally, rule, resolution, to, p, n);
                         settle_tally(tally, to);
                       });
    }
    return;
  }
  for (i64 c = c0; c < c1; ++c) {
    const Histogram to = histogram_of(job, c);
    visit_stretches<E>(view, c, p0, p1, [&](const typename E::Storage* p, i64 n) {
      tally_stretch<E>(tally, rule, resolution, to, p, n);
    });
    if (job.requested.per_channel != 0) settle_tally(tally, to);
  }
}

// What the driver calls with each part of a tensor, after its scan.
template <class E>
void request(const Job& job, const double* pivot, i64 c0, i64 c1, i64 p0, i64 p1, double* powers,
             Tally& tally) {
  if (job.requested.m3 != nullptr) {
    measure_sums<E, true>(job, pivot, c0, c1, p0, p1, powers);
  } else if (job.requested.sum_abs != nullptr) {
    measure_sums<E, false>(job, pivot, c0, c1, p0, p1, powers);
  }
  if (job.requested.bins != nullptr) tally_part<E>(job, c0, c1, p0, p1, tally);
}

inline void settle_all(const Job& job, Tally& tally) {
  if (job.requested.bins != nullptr) settle_tally(tally, histogram_of(job, 0));
}

inline void fold_requested(const Job& job, i64 c0, i64 c1, i64 splits, const Scratch& scratch) {
  if (!any_sums(job.requested)) return;
  for (i64 c = c0; c < c1; ++c) {
    PowerSums sums = load_powers(scratch.powers, job.part_row, c);
    for (i64 s = 1; s < splits; ++s) {
      add(sums, load_powers(scratch.powers + s * kPowerSums * job.part_row, job.part_row, c));
    }
    const ChannelState before = load_state<i64>(job.state, job.row, c);
    merge_requested(job.requested, job.row, c, before, sums, scratch.pivot[c]);
  }
}

}  // namespace
}  // namespace fmstats
