// Counting the bins of elements: indices are first collected, a vector at a time, then counted.
//
// Four copies of the counts take turns, so that equal neighbours, of which real data are full, do
// not wait for each other: a count is loaded again only when the one before is stored. Of 16 bits,
// the copies fit into the first-level cache beside the elements; they are spilled in time.
#pragma once

#include "stretches.h"

namespace fmstats {
namespace {

constexpr int kTallyStride = 1 << 5;  // counts of a copy are a multiple of it: of every vector
constexpr i64 kTallySpill = kTallyCopies * 65535LL - kTallyReady;  // elements, before the first
                                                                   // 16-bit count can overflow
// Fewer indices are counted at once where they go: to spill the copies would cost more.
constexpr i64 kTallyDirect = 512;

static_assert(kTallyReady % kTallyCopies == 0, "all but the last indices are whole turns");

// The histogram that a tally goes to.
struct Histogram {
  i64* counts;
  int words;    // bins
  bool shared;  // with other threads
};

inline int tally_stride(int words) {
  return (words + kTallyStride) / kTallyStride * kTallyStride;  // one more than words, at least
}

// Move the counts of all copies to a histogram: without a branch for each, where nobody else may
// add to it meanwhile. Most blocks of bins are empty, and only looked at.
inline void spill(Tally& tally, const Histogram& to) {
  const int stride = tally_stride(to.words);
  for (int begin = 0; begin <= to.words; begin += kTallyStride) {
    unsigned short* const block = tally.counts + begin;
    unsigned sums[kTallyStride], found = 0;
    for (int i = 0; i < kTallyStride; ++i) {
      const unsigned short* one = block + i;
      sums[i] = one[0] + one[stride] + one[2 * stride] + one[3 * stride];
      found |= sums[i];
    }
    if (found == 0) continue;
    for (int copy = 0; copy < kTallyCopies; ++copy) {
      __builtin_memset(block + copy * stride, 0, sizeof *block * kTallyStride);
    }
    i64* const counts = to.counts + begin;
    const int n = to.words - begin < kTallyStride ? to.words - begin : kTallyStride;
    if (to.shared) {
      for (int i = 0; i < n; ++i) {
        if (sums[i] != 0) __atomic_fetch_add(counts + i, i64{sums[i]}, __ATOMIC_RELAXED);
      }
    } else if (n == kTallyStride) {
      for (int i = 0; i < kTallyStride; ++i) counts[i] += sums[i];
    } else {
      for (int i = 0; i < n; ++i) counts[i] += sums[i];
    }
  }
  tally.counted = 0;
}

// Count the indices that wait, in the copies.
inline void count_ready(Tally& tally, const Histogram& to) {
  const int stride = tally_stride(to.words);
  unsigned short* const c = tally.counts;
  const unsigned short* const ready = tally.ready;
  int i = 0;
  for (; i + kTallyCopies <= tally.waiting; i += kTallyCopies) {
    unsigned long long four;  // one load of four indices
    __builtin_memcpy(&four, ready + i, sizeof four);
    ++c[four & 0xffff];
    ++c[stride + (four >> 16 & 0xffff)];
    ++c[2 * stride + (four >> 32 & 0xffff)];
    ++c[3 * stride + (four >> 48)];
  }
  for (int copy = 0; i < tally.waiting; ++i, ++copy) ++c[copy * stride + ready[i]];
  tally.counted += tally.waiting;
  tally.waiting = 0;
  if (tally.counted > kTallySpill) spill(tally, to);
}

// Count what waits and what was counted, into the histogram; the tally is empty then.
inline void settle_tally(Tally& tally, const Histogram& to) {
  if (tally.counted == 0 && tally.waiting < kTallyDirect) {
    for (int i = 0; i < tally.waiting; ++i) {
      const int bin = tally.ready[i];
      if (bin >= to.words) continue;
      if (to.shared) {
        __atomic_fetch_add(to.counts + bin, i64{1}, __ATOMIC_RELAXED);
      } else {
        ++to.counts[bin];
      }
    }
    tally.waiting = 0;
    return;
  }
  count_ready(tally, to);
  spill(tally, to);
}

// The rule of bins for a vector of float32, by their bits.
struct BinRule {
  explicit BinRule(int resolution)
      : shift(23 - resolution),
        before(((127 + kLowestExponent) << resolution) - 1),
        of_sign(bins_of_sign(resolution)) {}

  // The indices of the bins of x; those of 0, NaN and infinities have no meaning.
  u32v of(f32v x) const {
    const i32v magnitude = (i32v)x & 0x7fffffff;
    const i32v capped = magnitude >= kLargest ? splat<i32v>(kBeyond) : magnitude;
    const i32v known = capped > kBelow ? capped : splat<i32v>(kBelow);
    const i32v place = (i32v)((u32v)known >> shift) - before;
#if FMSTATS_VECTOR_BYTES == 64 && defined(__AVX512F__)
    return (u32v)_mm512_mask_add_epi32((__m512i)place, _mm512_movepi32_mask((__m512i)x),
                                       (__m512i)place, _mm512_set1_epi32(of_sign));
#else
    return (u32v)(place + (((i32v)x >> 31) & of_sign));
#endif
  }

  static constexpr int kBelow = ((127 + kLowestExponent) << 23) - 1;  // less than 2^-24
  static constexpr int kLargest = 0x477fe000;                         // 65504
  static constexpr int kBeyond = 0x47800000;                          // 65536

  const int shift, before, of_sign;
};

#if FMSTATS_VECTOR_BYTES == 64 && defined(__AVX512F__)

// The lanes that are not 0, NaN or infinite.
FMSTATS_FN __mmask16 counted_lanes(f32v x) {
  constexpr int kNan = 0x81, kZero = 0x06, kInfinite = 0x18;
  return _knot_mask16(_mm512_fpclass_ps_mask((__m512)x, kNan | kZero | kInfinite));
}

FMSTATS_FN void collect_some(Tally& tally, u32v index, __mmask16 counted) {
  const __m512i kept = _mm512_maskz_compress_epi32(counted, (__m512i)index);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(tally.ready + tally.waiting),
                      _mm512_cvtepi32_epi16(kept));
  tally.waiting += __builtin_popcount(counted);
}

// Collect the indices of a vector, but for 0, NaN and infinities.
FMSTATS_FN void collect(Tally& tally, const BinRule& rule, f32v x) {
  collect_some(tally, rule.of(x), counted_lanes(x));
}

// The same of two. Where all lanes count, one operation packs both, in whatever order.
FMSTATS_FN void collect(Tally& tally, const BinRule& rule, f32v x, f32v y) {
  const u32v a = rule.of(x), b = rule.of(y);
  const __mmask16 counted = counted_lanes(x), counted_2 = counted_lanes(y);
  if (_mm512_kunpackw(counted, counted_2) == 0xffffffffu) {
    _mm512_storeu_si512(tally.ready + tally.waiting, _mm512_packus_epi32((__m512i)a, (__m512i)b));
    tally.waiting += 2 * kLanes<float>;
  } else {
    collect_some(tally, a, counted);
    collect_some(tally, b, counted_2);
  }
}

#else

// Collect the indices of a vector. Without a way to leave lanes out, 0, NaN and infinities are
// counted in a bin that nobody reads.
FMSTATS_FN void collect(Tally& tally, const BinRule& rule, f32v x) {
  const i32v magnitude = (i32v)x & 0x7fffffff;
  const u32v counted = (u32v)((magnitude > 0) & (magnitude < 0x7f800000));
  const u32v kept = (rule.of(x) & counted) | ((unsigned)(2 * rule.of_sign) & ~counted);
  const u16h narrow = __builtin_convertvector(kept, u16h);
  __builtin_memcpy(tally.ready + tally.waiting, &narrow, sizeof narrow);
  tally.waiting += kLanes<float>;
}

FMSTATS_FN void collect(Tally& tally, const BinRule& rule, f32v x, f32v y) {
  collect(tally, rule, x);
  collect(tally, rule, y);
}

#endif

// Tally one element.
inline void tally_one(Tally& tally, double x, int resolution) {
  unsigned long long bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  tally.ready[tally.waiting] = static_cast<unsigned short>(bin_of(bits, resolution));
  tally.waiting += is_finite(x) && (bits & 0x7fffffffffffffffULL) != 0;
}

// Tally n elements that lie one after the other.
template <class E>
void tally_stretch(Tally& tally, const BinRule& rule, int resolution, const Histogram& to,
                   const typename E::Storage* p, i64 n) {
  const auto make_room = [&] {
    if (tally.waiting + 2 * kLanes<float> > kTallyReady) count_ready(tally, to);
  };
  const auto rest = [&](typename E::Storage x) {
    make_room();
    tally_one(tally, E::one(x), resolution);
  };
  if constexpr (sizeof(typename E::Real) == sizeof(float)) {
    const auto two = [&](f32v x, f32v y) {
      make_room();
      collect(tally, rule, x, y);
    };
    const auto one = [&](f32v x) {
      make_room();
      collect(tally, rule, x);
    };
    visit_vectors<E>(p, n, two, one, rest);
  } else {
    for (i64 i = 0; i < n; ++i) rest(p[i]);
  }
}

}  // namespace
}  // namespace fmstats
