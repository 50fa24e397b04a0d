// What a thread accumulates of a pack: of kPack channels side by side (columns), or of kPack
// elements of one channel at a time (rows).
//
// At most kRoundings elements are added up in float32, then `settle` takes the sums on in float64.
// A chunk is a stretch of kChunkElements for each sum. One whose sums of squares are finite holds
// no NaN, no infinity and no overflow; any other is read again exactly, its sums, minimum and
// maximum dropped.
#pragma once

#include "args.h"
#include "elements.cuh"

namespace fmstats {

constexpr int kChunkElements = 128;

// The thresholds as packs, which elements are compared with.
template <class E>
struct Limits {
  typename E::Pack tol, low, high;
  __device__ explicit Limits(const CudaArgs& a)
      : tol(E::from_bits(a.limits[0])),
        low(E::from_bits(a.limits[1])),
        high(E::from_bits(a.limits[2])) {}
};

__device__ __forceinline__ float multiply_add(float a, float b, float c) {
  return __fmaf_rn(a, b, c);
}
__device__ __forceinline__ double multiply_add(double a, double b, double c) {
  return __fma_rn(a, b, c);
}

template <class E, int kMode>
struct Lane {
  typedef typename E::Real Real;
  typedef typename E::Pack Pack;
  static constexpr int kPack = E::kPack;
  static constexpr bool kSettles = sizeof(Real) == 4;

  // A sum of each element of the packs.
  struct Sum {
    Real recent[kPack];  // since it was settled; of float32
    double total[kPack];

    // Where terms are added.
    __device__ __forceinline__ Real& of(int c) {
      if constexpr (kSettles) {
        return recent[c];
      } else {
        return total[c];
      }
    }
  };

#define FMSTATS_SUM(name, ...) Sum name;
#define FMSTATS_EXTREME(name, ...) Pack name;
#define FMSTATS_COMPARISON(name, ...) unsigned name;  // a sum of marks
  FMSTATS_PART_SUMS(FMSTATS_SUM)
  FMSTATS_EXTREMES(FMSTATS_EXTREME)
  FMSTATS_COMPARISONS(FMSTATS_COMPARISON)
#undef FMSTATS_SUM
#undef FMSTATS_EXTREME
#undef FMSTATS_COMPARISON

  __device__ __forceinline__ void begin() {
    drop_moments();
#define FMSTATS_COMPARISON(name, ...) name = 0;
    FMSTATS_COMPARISONS(FMSTATS_COMPARISON)
#undef FMSTATS_COMPARISON
  }

  __device__ __forceinline__ void take(Pack x, const Real* pivot, const Limits<E>& limits) {
#pragma unroll
    for (int c = 0; c < kPack; ++c) add(E::real(x, c) - pivot[c], c);
    compare(x, limits);
  }

  // Those elements alone whose marks are set.
  __device__ __forceinline__ void take_some(Pack x, unsigned present, const Real* pivot,
                                            const Limits<E>& limits) {
    if constexpr (kPack == 1) {
      if (present) take(x, pivot, limits);
    } else {
#pragma unroll
      for (int c = 0; c < kPack; ++c) {
        add((present >> (16 * c) & 1) ? E::real(x, c) - pivot[c] : Real(0), c);
      }
      compare(x | ~present, limits);  // ones are a NaN
    }
  }

  // To be called after at most kRoundings elements of a pack's place.
  __device__ __forceinline__ void settle() {
    if constexpr (kSettles) {
#pragma unroll
      for (int c = 0; c < kPack; ++c) {
#define FMSTATS_SUM(name, ...)                          \
  name.total[c] += static_cast<double>(name.recent[c]); \
  name.recent[c] = 0;
        FMSTATS_PART_SUMS(FMSTATS_SUM)
#undef FMSTATS_SUM
      }
    }
  }

  __device__ __forceinline__ bool is_finite() const {
    bool finite = true;
#pragma unroll
    for (int c = 0; c < kPack; ++c) {
#define FMSTATS_SUM(name, ...) \
  finite &= (name.total[c] < 0 ? -name.total[c] : name.total[c]) < infinity();
      finite &= sum_sq.total[c] < infinity();
      FMSTATS_SUMS(FMSTATS_SUM)
#undef FMSTATS_SUM
      if (E::kHidesNan) finite &= !E::hides_nan(E::real(min, c)) & !E::hides_nan(E::real(max, c));
    }
    return finite;
  }

  // Drop what a chunk that is not finite spoils; marks are right for every value.
  __device__ __forceinline__ void drop_moments() {
#define FMSTATS_SUM(name, ...) name.total[c] = name.recent[c] = 0;
#define FMSTATS_EXTREME(name, Name, join, side) name = E::infinity(0 > side 1);
#pragma unroll
    for (int c = 0; c < kPack; ++c) {
      FMSTATS_PART_SUMS(FMSTATS_SUM)
    }
    FMSTATS_EXTREMES(FMSTATS_EXTREME)
#undef FMSTATS_SUM
#undef FMSTATS_EXTREME
  }

  // What element c of the packs came to; no infinities or NaN are among them.
  __device__ __forceinline__ Partial part(int c) const {
    Partial p = empty_partial();
#define FMSTATS_COMPARISON(name, Name, Mode) \
  if (kMode >= k##Mode) p.name = E::marked(name, c);
#define FMSTATS_SUM(name, ...) p.name = name.total[c];
#define FMSTATS_EXTREME(name, ...) p.name = static_cast<double>(E::real(name, c));
    FMSTATS_COMPARISONS(FMSTATS_COMPARISON)
    FMSTATS_PART_SUMS(FMSTATS_SUM)
    FMSTATS_EXTREMES(FMSTATS_EXTREME)
#undef FMSTATS_COMPARISON
#undef FMSTATS_SUM
#undef FMSTATS_EXTREME
    return p;
  }

 private:
  __device__ __forceinline__ void add(Real d, int c) {
    sum.of(c) += d;
    sum_sq.of(c) = multiply_add(d, d, sum_sq.of(c));
  }
  __device__ __forceinline__ void compare(Pack x, const Limits<E>& limits) {
    min = E::smaller_of(x, min);
    max = E::larger_of(x, max);
    if (kMode >= kAll) {
      E::count_at_most(zeros, E::magnitude(x), limits.tol);
      E::count_at_most(sat_low, x, limits.low);
    } else {
      E::count_equal(zeros, x, Pack(0));
    }
    if (kMode >= kUpper) E::count_at_least(sat_high, x, limits.high);
  }
};

// One element of a chunk that is not finite. Its thresholds have been counted, rightly unless it is
// a hidden NaN.
template <class E, int kMode>
__device__ void take_moments(typename E::Real x, double pivot, const Thresholds& thresholds,
                             Partial& part) {
  if (!E::hides_nan(x)) return add_moments(static_cast<double>(x), pivot, part);
  Partial counted = empty_partial();
  add_thresholds(static_cast<double>(x), thresholds, counted);
  ++part.nan;
#define FMSTATS_COMPARISON(name, Name, Mode) \
  if (kMode >= k##Mode) part.name -= counted.name;
  FMSTATS_COMPARISONS(FMSTATS_COMPARISON)
#undef FMSTATS_COMPARISON
}

// Fields of lanes, channel by channel, and two of a field as one: StagedSum, StagedMin, ... Not
// lambdas: NVRTC up to 13.0 takes those within templates for host functions.
#define FMSTATS_SUM(name, Name, ...)                                                        \
  template <class E>                                                                        \
  struct Staged##Name {                                                                     \
    template <int kMode>                                                                    \
    static __device__ __forceinline__ typename E::Real of(const Lane<E, kMode>& l, int c) { \
      return static_cast<typename E::Real>(l.name.total[c]);                                \
    }                                                                                       \
    static __device__ __forceinline__ double join(double a, double b) { return a + b; }     \
  };
#define FMSTATS_EXTREME(name, Name, smaller_or_larger, ...)                     \
  template <class E>                                                            \
  struct Staged##Name {                                                         \
    typedef typename E::Real Real;                                              \
    template <int kMode>                                                        \
    static __device__ __forceinline__ Real of(const Lane<E, kMode>& l, int c) { \
      return E::real(l.name, c);                                                \
    }                                                                           \
    static __device__ __forceinline__ Real join(Real a, Real b) {               \
      return smaller_or_larger(a, b);                                           \
    }                                                                           \
  };
FMSTATS_PART_SUMS(FMSTATS_SUM)
FMSTATS_EXTREMES(FMSTATS_EXTREME)
#undef FMSTATS_SUM
#undef FMSTATS_EXTREME

}  // namespace fmstats
