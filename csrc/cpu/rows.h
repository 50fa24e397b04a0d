// One channel at a time along runs of positions: NCHW (the run is contiguous), and, with a gather
// in place of the load, any strides at all.
//
// A block is a stretch of positions; one that is not finite is dropped, its minimum and maximum
// rolled back, and read again exactly.
//
// The end of a run that fills no vector is read as the run's last kWidth elements, of which some
// are chosen; a run shorter than that waits in `pending` for the next.
//
// Of a group whose stretches are short, all positions are walked, and each vector is taken in the
// lanes that are the group's.
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

// Load twice as many, in any order, or as they lie where kInOrder.
template <class E, bool kContiguous, bool kInOrder, class V>
inline void load_two(const typename E::Storage* p, i64 step, V& x, V& y) {
  if constexpr (kContiguous && !kInOrder) {
    E::two(p, x, y);
  } else {
    x = load_run<E, kContiguous>(p, step);
    y = load_run<E, kContiguous>(p + kLanes<typename E::Real> * step, step);
  }
}

// Which elements count from the present position of a run on: all of them,
template <class V>
struct Everyone {
  static constexpr bool kAll = true;
  explicit Everyone(const MaskedView&) {}
  void stand_at(i64) {}
  void advance(i64) {}
  bool counts(i64) const { return true; }
  AllLanes lanes(i64) const { return {}; }
  auto lanes_back(int first) const { return lanes_from(first, V{}); }
};

// or those of a group.
template <class V>
class Members {
 public:
  static constexpr bool kAll = false;
  explicit Members(const MaskedView& view) : all_(view.numbers), group_(view.group) {}
  void stand_at(i64 position) { at_ = all_ + position; }
  void advance(i64 n) { at_ += n; }
  bool counts(i64 i) const { return at_[i] == group_; }
  // Of the vector whose first lane is i elements from here.
  auto lanes(i64 i) const { return lanes_in_group(at_ + i, group_, 0, V{}); }
  // Of the vector of which lane number `first` is here, and the ones before have been taken.
  auto lanes_back(int first) const { return lanes_in_group(at_ - first, group_, first, V{}); }

 private:
  const unsigned char *all_, *at_;
  unsigned char group_;
};

constexpr int kBlockVectors = 64;

// Positions of a block: whole runs where they are short. How many is a matter of speed alone: a NaN
// makes the kernel read its block again; when sums go on in float64 does not depend on blocks.
template <class E>
inline i64 block_positions(const MaskedView& view) {
  constexpr i64 kWidth = kLanes<typename E::Real>, kMost = kBlockVectors * kWidth;
  const i64 run = view.size[view.dim_count - 1];
  if (run >= kMost) return kMost;
  if (run < kWidth) return kMost / run * run;
  return kBlockVectors / ((run + kWidth - 1) / kWidth) * run;
}

// Take kCount vectors from p on: chains, joined in pairs. Two sets of lanes hide the latency of
// minimum and maximum.
template <int kCount, class E, Mode kMode, bool kContiguous, class Real, class V, class Who>
FMSTATS_MEMBER Sums<Real> take_group(Lanes<Real>& a, Lanes<Real>& b, const Limits<Real>& limits,
                                     V pivot, const typename E::Storage* p, i64 step, Who& who) {
  constexpr i64 kWidth = kLanes<Real>;
  if constexpr (kCount > kChain) {
    constexpr int kHalf = kCount / 2;
    auto sums = take_group<kHalf, E, kMode, kContiguous>(a, b, limits, pivot, p, step, who);
    p += kHalf * kWidth * step;
    sums.join(take_group<kHalf, E, kMode, kContiguous>(a, b, limits, pivot, p, step, who));
    return sums;
  } else {
    Sums<Real> sums;
    for (int i = 0; i < kChain; i += 2, p += 2 * kWidth * step) {
      if constexpr (kContiguous) {
        const char* const ahead = reinterpret_cast<const char*>(p) + kAheadBytes;
        for (i64 i = 0; i < 2 * kWidth * i64{sizeof *p}; i += kLineBytes) {
          __builtin_prefetch(ahead + i);
        }
      }
      V x, y;
      load_two<E, kContiguous, !Who::kAll>(p, step, x, y);
      if (i == 0) {
        take<kMode, true>(a, sums, limits, pivot, x, who.lanes(0));
      } else {
        take<kMode>(a, sums, limits, pivot, x, who.lanes(0));
      }
      take<kMode>(b, sums, limits, pivot, y, who.lanes(kWidth));
      who.advance(2 * kWidth);
    }
    return sums;
  }
}

// Add positions [p0, p1) of a channel block by block; `start` stands at p0.
template <class E, Mode kMode, bool kContiguous, template <class> class Who>
void scan_channel(const Job& job, double exact_pivot, i64 channel, const Runs& start, i64 p0,
                  i64 p1, i64 block, Partial& part) {
  typedef typename E::Real Real;
  typedef typename E::Storage Storage;
  typedef typename Vec<Real>::type V;
  constexpr int kWidth = kLanes<Real>;

  const MaskedView& view = job.view;
  const i64 step = kContiguous ? 1 : view.stride[view.dim_count - 1];
  const auto* first = static_cast<const Storage*>(view.data) + channel * view.channel_stride;
  const Limits<Real> limits(job.thresholds);
  const V pivot = splat<V>(static_cast<Real>(exact_pivot));
  Lanes<Real> a, b;  // two, to hide the latency of minimum and maximum
  Totals<Real> whole;
  Storage pending[2 * kWidth] = {};
  int waiting = 0;
  Who<V> who(view);
  Runs runs(start);

  while (p0 < p1) {
    const i64 block_start = p0, end = p1 - p0 < block ? p1 : runs.end_of_block(p0 + block);
    const Extremes<Real> kept_a(a), kept_b(b);
    Totals<Real> totals;
    Sums<Real> chains;
    int joined = 0;
    const auto join = [&](const Sums<Real>& chain) {
      chains.join(chain);
      if (++joined < kChains) return;
      totals.add(chains);
      chains = {};
      joined = 0;
    };
    while (p0 < end) {
      i64 n = runs.left() < end - p0 ? runs.left() : end - p0;
      const Storage* p = first + runs.offset();
      who.stand_at(p0);
      runs.advance(n);
      p0 += n;
      const bool reaches_back = n >= kWidth;
      for (; n >= kGroup * kWidth; n -= kGroup * kWidth, p += kGroup * kWidth * step) {
        totals.add(take_group<kGroup, E, kMode, kContiguous>(a, b, limits, pivot, p, step, who));
      }
      for (; n >= kChain * kWidth; n -= kChain * kWidth, p += kChain * kWidth * step) {
        join(take_group<kChain, E, kMode, kContiguous>(a, b, limits, pivot, p, step, who));
      }
      if (n == 0) continue;
      Sums<Real> chain;
      for (; n >= kWidth; n -= kWidth, p += kWidth * step) {
        take<kMode>(a, chain, limits, pivot, load_run<E, kContiguous>(p, step), who.lanes(0));
        who.advance(kWidth);
      }
      if (n > 0 && reaches_back) {
        const V x = load_run<E, kContiguous>(p - (kWidth - n) * step, step);
        take<kMode>(b, chain, limits, pivot, x, who.lanes_back(kWidth - static_cast<int>(n)));
      } else if (n > 0) {
        for (i64 i = 0; i < n; ++i) {
          pending[waiting] = p[i * step];
          waiting += who.counts(i);
        }
        if (waiting < kWidth) continue;
        take<kMode>(b, chain, limits, pivot, E::vector(pending));
        waiting -= kWidth;
        for (int i = 0; i < waiting; ++i) pending[i] = pending[kWidth + i];
      }
      join(chain);
    }
    if (waiting > 0) {
      Sums<Real> chain;
      take<kMode>(b, chain, limits, pivot, E::vector(pending), ~lanes_from(waiting, V{}));
      waiting = 0;
      join(chain);
    }
    totals.add(chains);
    if (totals.any_non_finite()) {
      a.Extremes<Real>::operator=(kept_a);
      b.Extremes<Real>::operator=(kept_b);
      scan_moments_exactly<E>(view, channel, block_start, end, exact_pivot, part);
    } else {
      whole.add(totals);
    }
  }

  const auto plus = [](auto x, auto y) { return x + y; };
#define FMSTATS_SUM(name, ...) part.name += total(whole.name);
#define FMSTATS_EXTREME(name, Name, join, ...)                             \
  part.name = join(part.name,                                              \
                   static_cast<double>(across(keep_##join(a.name, b.name), \
                                              [](auto x, auto y) { return keep_##join(x, y); })));
#define FMSTATS_COUNT(name, Name, Mode) \
  if constexpr (kMode >= k##Mode) part.name += across(a.name + b.name, plus);
  FMSTATS_PART_SUMS(FMSTATS_SUM)
  FMSTATS_EXTREMES(FMSTATS_EXTREME)
  FMSTATS_COMPARISONS(FMSTATS_COUNT)
#undef FMSTATS_SUM
#undef FMSTATS_EXTREME
#undef FMSTATS_COUNT
}

template <class E, bool kContiguous>
auto channel_scan(const Job& job) {
  constexpr int kOfAll = kContiguous ? kVariantsOf<E> : kFewVariantsOf<E>;
  constexpr int kOfMembers = kContiguous ? kFewVariantsOf<E> : 1;
  if (job.view.numbers != nullptr) {
    return choose_by_mode<kOfMembers>(
        job.mode, [](auto mode) { return &scan_channel<E, mode.value, kContiguous, Members>; });
  }
  return choose_by_mode<kOfAll>(
      job.mode, [](auto mode) { return &scan_channel<E, mode.value, kContiguous, Everyone>; });
}

template <class E, bool kContiguous>
void scan_rows(const Job& job, const double* pivot, i64 c0, i64 c1, i64 p0, i64 p1, i64* parts) {
  const auto scan = channel_scan<E, kContiguous>(job);
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
