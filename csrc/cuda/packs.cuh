// What can be done with all elements of a pack at once. Minimum and maximum pass over NaN,
// comparisons with NaN are false.
//
// What comparisons come to is added up as marks: 1 for a single number that fits, and for an
// element of a pair all its bits (an addition takes three numbers, so two comparisons share one).
// `marked` reads the sum: of pairs it is 0xffff times (1 for a lower half, 0x10000 for an upper),
// which the inverse of 0xffff undoes.
#pragma once

#include "../parts.h"
#include "../view.h"

namespace fmstats {

// A predicate and an addition under it: compilers make three instructions of `marks += a <= b`.
#define FMSTATS_COUNT(name, comparison, type, constraint)                        \
  static __device__ __forceinline__ void name(unsigned& marks, type a, type b) { \
    asm("{ .reg .pred p; " comparison " p, %1, %2; @p add.u32 %0, %0, 1; }"      \
        : "+r"(marks)                                                            \
        : constraint(a), constraint(b));                                         \
  }

template <class T>
struct Singles {
  typedef T Real;
  typedef T Pack;
  static constexpr int kPack = 1;
  static constexpr bool kHidesNan = false;

  static __device__ __forceinline__ Pack from_bits(i64 bits) {
    T x;
    memcpy(&x, &bits, sizeof x);
    return x;
  }
  static __device__ __forceinline__ Pack infinity(bool negative) {
    return static_cast<T>(negative ? -fmstats::infinity() : fmstats::infinity());
  }
  static __device__ __forceinline__ Real real(Pack x, int) { return x; }
  static __device__ __forceinline__ float smaller_of(float a, float b) { return fminf(a, b); }
  static __device__ __forceinline__ double smaller_of(double a, double b) { return fmin(a, b); }
  static __device__ __forceinline__ float larger_of(float a, float b) { return fmaxf(a, b); }
  static __device__ __forceinline__ double larger_of(double a, double b) { return fmax(a, b); }
  static __device__ __forceinline__ float magnitude(float x) { return fabsf(x); }
  static __device__ __forceinline__ double magnitude(double x) { return fabs(x); }
  static __device__ __forceinline__ int marked(unsigned sum, int) { return static_cast<int>(sum); }
  static __device__ __forceinline__ bool hides_nan(Real) { return false; }
  FMSTATS_COUNT(count_at_most, "setp.le.f32", float, "f")
  FMSTATS_COUNT(count_at_least, "setp.ge.f32", float, "f")
  FMSTATS_COUNT(count_equal, "setp.eq.f32", float, "f")
  FMSTATS_COUNT(count_at_most, "setp.le.f64", double, "d")
  FMSTATS_COUNT(count_at_least, "setp.ge.f64", double, "d")
  FMSTATS_COUNT(count_equal, "setp.eq.f64", double, "d")
};

#undef FMSTATS_COUNT

// Two numbers of 16 bits, summed in float32.
struct Pairs {
  typedef float Real;
  typedef unsigned Pack;
  static constexpr int kPack = 2;
  static constexpr bool kHidesNan = false;

  static __device__ __forceinline__ Pack from_bits(i64 bits) { return static_cast<Pack>(bits); }
  static __device__ __forceinline__ Pack magnitude(Pack x) { return x & 0x7fff7fffu; }
  static __device__ __forceinline__ int marked(unsigned sum, int half) {
    return static_cast<int>((sum * 0xfffeffffu) >> (16 * half) & 0xffff);
  }
  static __device__ __forceinline__ bool hides_nan(Real) { return false; }
};

// Two elements at a time: an instruction of three registers.
#define FMSTATS_PAIR(name, instruction)                                     \
  static __device__ __forceinline__ unsigned name(unsigned a, unsigned b) { \
    unsigned result;                                                        \
    asm(instruction " %0, %1, %2;" : "=r"(result) : "r"(a), "r"(b));        \
    return result;                                                          \
  }
#define FMSTATS_PAIR_COUNT(name, comparison)                                             \
  static __device__ __forceinline__ void name(unsigned& marks, unsigned a, unsigned b) { \
    marks += comparison(a, b);                                                           \
  }

struct Halves : Pairs {
  static __device__ __forceinline__ Pack infinity(bool negative) {
    return negative ? 0xfc00fc00u : 0x7c007c00u;
  }
  static __device__ __forceinline__ Real real(Pack x, int half) {
    float f;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(static_cast<unsigned short>(x >> (16 * half))));
    return f;
  }
  FMSTATS_PAIR(smaller_of, "min.f16x2")
  FMSTATS_PAIR(larger_of, "max.f16x2")
  FMSTATS_PAIR(at_most, "set.le.u32.f16x2")
  FMSTATS_PAIR(at_least, "set.ge.u32.f16x2")
  FMSTATS_PAIR(equal, "set.eq.u32.f16x2")
  FMSTATS_PAIR_COUNT(count_at_most, at_most)
  FMSTATS_PAIR_COUNT(count_at_least, at_least)
  FMSTATS_PAIR_COUNT(count_equal, equal)
};

struct BrainHalves : Pairs {
  static __device__ __forceinline__ Pack infinity(bool negative) {
    return negative ? 0xff80ff80u : 0x7f807f80u;
  }
  static __device__ __forceinline__ Real real(Pack x, int half) {
    return __uint_as_float(half ? x & 0xffff0000u : x << 16);
  }
  FMSTATS_PAIR(smaller_of, "min.bf16x2")
  FMSTATS_PAIR(larger_of, "max.bf16x2")
#if __CUDA_ARCH__ >= 900
  FMSTATS_PAIR(at_most, "set.le.u32.bf16x2")
  FMSTATS_PAIR(at_least, "set.ge.u32.bf16x2")
  FMSTATS_PAIR(equal, "set.eq.u32.bf16x2")
#else  // no such comparisons of pairs
  static __device__ __forceinline__ unsigned marks(bool low, bool high) {
    return (low ? 0xffffu : 0u) | (high ? 0xffff0000u : 0u);
  }
  static __device__ __forceinline__ unsigned at_most(Pack a, Pack b) {
    return marks(real(a, 0) <= real(b, 0), real(a, 1) <= real(b, 1));
  }
  static __device__ __forceinline__ unsigned at_least(Pack a, Pack b) { return at_most(b, a); }
  static __device__ __forceinline__ unsigned equal(Pack a, Pack b) {
    return marks(real(a, 0) == real(b, 0), real(a, 1) == real(b, 1));
  }
#endif
  FMSTATS_PAIR_COUNT(count_at_most, at_most)
  FMSTATS_PAIR_COUNT(count_at_least, at_least)
  FMSTATS_PAIR_COUNT(count_equal, equal)
};

#undef FMSTATS_PAIR
#undef FMSTATS_PAIR_COUNT

}  // namespace fmstats
