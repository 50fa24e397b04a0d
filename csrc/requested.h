// What is measured on request, beside what is always measured: how elements add up to it, how it
// merges into a state, and which bin of a histogram an element is in.
//
// The Python twins are fmstats/statistic/merging.py and bins.py. Sums are made in float64 of each
// element: powers up to the fourth leave no room for float32. Their pivot is that of the other sums
// (parts.h), so that what cancels is small.
#pragma once

#include "parts.h"

namespace fmstats {

// Where it goes: what is null is not measured. Words lie as those of a state (state.h).
struct Requested {
  double* sum_abs;
  double* m3;       // m4 is the next row
  i64* bins;        // histograms, one after the other
  int per_channel;  // whether each channel has one; else there is one of all
  int resolution;   // bits of the mantissa that tell bins apart
};

FMSTATS_FN bool any_sums(const Requested& r) {
  return r.sum_abs != nullptr || r.m3 != nullptr;
}
FMSTATS_FN bool any_requested(const Requested& r) {
  return any_sums(r) || r.bins != nullptr;
}

// Sums over the finite elements of a channel's part, of d = x - pivot.
template <class Real>
struct PowerSumsOf {
  Real count, magnitudes;  // of elements; of |x|
  Real first, second, third, fourth;
};

typedef PowerSumsOf<double> PowerSums;

constexpr int kPowerSums = sizeof(PowerSums) / sizeof(double);

FMSTATS_FN bool is_finite(double x) {
  return (x < 0 ? -x : x) < infinity();
}

// Add one element, if it is finite.
FMSTATS_FN void add_powers(double x, double pivot, PowerSums& sums) {
  if (!is_finite(x)) return;
  const double d = x - pivot, square = d * d;
  sums.count += 1;
  sums.magnitudes += x < 0 ? -x : x;
  sums.first += d;
  sums.second += square;
  sums.third += square * d;
  sums.fourth += square * square;
}

template <class Real>
FMSTATS_FN void add(PowerSumsOf<Real>& into, const PowerSumsOf<Real>& more) {
  into.count += more.count;
  into.magnitudes += more.magnitudes;
  into.first += more.first;
  into.second += more.second;
  into.third += more.third;
  into.fourth += more.fourth;
}

// Merge sums of a part about `pivot` into what is requested of a channel (Pebay 2008). `before` is
// the channel's state without the part.
FMSTATS_FN void merge_requested(const Requested& r, i64 row, i64 channel,
                                const ChannelState& before, const PowerSums& part, double pivot) {
  const double nb = part.count;
  if (nb == 0) return;
  if (r.sum_abs != nullptr) r.sum_abs[channel] += part.magnitudes;
  if (r.m3 == nullptr) return;
  const double shift = part.first / nb, mean = pivot + shift;
  const double b2 = larger(part.second - part.first * shift, 0.0);
  const double b3 = part.third - 3 * shift * part.second + 2 * shift * shift * part.first;
  const double b4 = larger(part.fourth - 4 * shift * part.third + 6 * shift * shift * part.second -
                               3 * shift * shift * shift * part.first,
                           0.0);
  double* const m3 = r.m3 + channel;
  double* const m4 = m3 + row;
  const double na = static_cast<double>(finite_count(before));
  if (na == 0) {
    *m3 = b3;
    *m4 = b4;
    return;
  }
  const double n = na + nb, p = na / n, q = nb / n, delta = mean - before.mean;
  const double a2 = before.m2, a3 = *m3;
  *m3 = a3 + b3 + delta * (3 * (p * b2 - q * a2)) + delta * (delta * (na * q * (p - q)) * delta);
  *m4 = *m4 + b4 + delta * (4 * (p * b3 - q * a3)) +
        delta * (6 * (p * p * b2 + q * q * a2)) * delta +
        delta * (delta * (na * q * (p * p - p * q + q * q)) * delta) * delta;
}

// Bins, as bins.py has them: of each sign one of magnitudes below 2^kLowestExponent, then
// 2^resolution of each octave, and one from 65504 on.
constexpr int kLowestExponent = -24;
constexpr int kOctaves = 16 - kLowestExponent;
constexpr int kMostResolution = 6;

// The bins between the first and the last one of a sign, and all of a sign.
FMSTATS_FN constexpr int regular_bins(int resolution) {
  return kOctaves << resolution;
}
FMSTATS_FN constexpr int bins_of_sign(int resolution) {
  return regular_bins(resolution) + 2;
}
constexpr int kMostBins = 2 * bins_of_sign(kMostResolution);

// Where group number k, from 1 on, of positions has it, of so many channels each.
FMSTATS_FN Requested of_group(const Requested& r, int k, i64 channels) {
  const i64 first = (k - 1) * channels;
  Requested group = r;
  if (r.sum_abs != nullptr) group.sum_abs += first;
  if (r.m3 != nullptr) group.m3 += first;
  if (r.bins != nullptr) {
    group.bins += (r.per_channel != 0 ? first : k - 1) * 2 * bins_of_sign(r.resolution);
  }
  return group;
}

// The bin of a float32, or of a float64, by its bits, which are those of a finite number that is
// not 0. Magnitudes outside of the bins between become one just below these, or just beyond them.
FMSTATS_FN int bin_of(unsigned bits, int resolution) {
  constexpr unsigned kFirst = static_cast<unsigned>(127 + kLowestExponent) << 23;
  unsigned magnitude = bits & 0x7fffffffu;
  magnitude = larger(magnitude, kFirst - 1);
  magnitude = magnitude >= 0x477fe000u ? 0x47800000u : magnitude;  // 65504 and 65536
  const unsigned shift = 23 - resolution;
  const int place = static_cast<int>(magnitude >> shift) - static_cast<int>(kFirst >> shift) + 1;
  return (bits >> 31) != 0 ? place + bins_of_sign(resolution) : place;
}
FMSTATS_FN int bin_of(unsigned long long bits, int resolution) {
  constexpr unsigned long long kFirst = static_cast<unsigned long long>(1023 + kLowestExponent)
                                        << 52;
  unsigned long long magnitude = bits & 0x7fffffffffffffffULL;
  magnitude = larger(magnitude, kFirst - 1);
  magnitude = magnitude >= 0x40effc0000000000ULL ? 0x40f0000000000000ULL : magnitude;
  const int shift = 52 - resolution;
  const int place = static_cast<int>(magnitude >> shift) - static_cast<int>(kFirst >> shift) + 1;
  return (bits >> 63) != 0 ? place + bins_of_sign(resolution) : place;
}

}  // namespace fmstats
