// Fixed-width vectors of float and double, written with the compiler's vector extension so that one
// source serves SSE2, AVX2, AVX-512 and NEON. FMSTATS_VECTOR_BYTES is set by each isa_*.cpp.
//
// No std:: here: a template of the standard library compiled with AVX flags may be the copy that
// the linker keeps for everybody.
#pragma once

#if defined(__AVX2__) || defined(__F16C__)
#include <immintrin.h>
#elif defined(__SSE2__)
#include <emmintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

#include "../state.h"

#define FMSTATS_VECTOR(type) type __attribute__((vector_size(FMSTATS_VECTOR_BYTES)))

namespace fmstats {
namespace {

template <class Real>
struct Vec;

template <>
struct Vec<float> {
  typedef FMSTATS_VECTOR(float) type;
  typedef FMSTATS_VECTOR(int) mask;  // -1 where true
  typedef int lane_int;
};

template <>
struct Vec<double> {
  typedef FMSTATS_VECTOR(double) type;
  typedef FMSTATS_VECTOR(long long) mask;
  typedef long long lane_int;
};

template <class Real>
constexpr int kLanes = FMSTATS_VECTOR_BYTES / static_cast<int>(sizeof(Real));

typedef Vec<float>::type f32v;
typedef Vec<float>::mask i32v;
typedef Vec<double>::type f64v;
typedef Vec<double>::mask i64v;
typedef FMSTATS_VECTOR(unsigned) u32v;
typedef FMSTATS_VECTOR(unsigned long long) u64v;

template <class V, class S>
inline V splat(S x) {
  return x - V{};  // x - 0 is x, NaN and -0.0 included
}

template <class V>
inline V load_unaligned(const void* p) {
  V v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

inline f32v fma(f32v a, f32v b, f32v c) {
#if FMSTATS_VECTOR_BYTES == 64 && defined(__AVX512F__)
  return (f32v)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif FMSTATS_VECTOR_BYTES == 32 && defined(__FMA__)
  return (f32v)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif FMSTATS_VECTOR_BYTES == 16 && defined(__ARM_NEON)
  return (f32v)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
  return a * b + c;
#endif
}

inline f64v fma(f64v a, f64v b, f64v c) {
#if FMSTATS_VECTOR_BYTES == 64 && defined(__AVX512F__)
  return (f64v)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
#elif FMSTATS_VECTOR_BYTES == 32 && defined(__FMA__)
  return (f64v)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
#elif FMSTATS_VECTOR_BYTES == 16 && defined(__ARM_NEON) && defined(__aarch64__)
  return (f64v)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b);
#else
  return a * b + c;
#endif
}

// The kept value stays where x is NaN: this operand order is minps / maxps.
template <class V>
inline V keep_smaller(V x, V kept) {
  return x < kept ? x : kept;
}

template <class V>
inline V keep_larger(V x, V kept) {
  return x > kept ? x : kept;
}

inline f32v absolute(f32v x) {
  return (f32v)((i32v)x & 0x7fffffff);
}
inline f64v absolute(f64v x) {
  return (f64v)((i64v)x & 0x7fffffffffffffffLL);
}

inline bool any(bool mask) {
  return mask;
}

// Whether some lane of a mask is true.
template <class M>
inline bool any(M mask) {
#if FMSTATS_VECTOR_BYTES == 64 && defined(__AVX512F__)
  return _mm512_test_epi64_mask((__m512i)mask, (__m512i)mask) != 0;
#elif FMSTATS_VECTOR_BYTES == 32 && defined(__AVX2__)
  return !_mm256_testz_si256((__m256i)mask, (__m256i)mask);
#else
  long long words[FMSTATS_VECTOR_BYTES / 8];
  __builtin_memcpy(words, &mask, sizeof words);
  long long all = 0;
  for (long long word : words) all |= word;
  return all != 0;
#endif
}

// Whether some lane is NaN or infinite.
inline bool any_non_finite(f32v x) {
  return any(((i32v)x & 0x7fffffff) >= 0x7f800000);
}
inline bool any_non_finite(f64v x) {
  return any(((i64v)x & 0x7fffffffffffffffLL) >= 0x7ff0000000000000LL);
}

// Combine the lanes of a vector by halves.
template <class V, class Combine>
inline auto across(V v, Combine combine) {
  typedef __typeof__(v[0] + v[0]) T;
  if constexpr (sizeof v > 16) {
    typedef T Half __attribute__((vector_size(sizeof v / 2)));
    Half halves[2];
    __builtin_memcpy(halves, &v, sizeof v);
    return across(combine(halves[0], halves[1]), combine);
  } else if constexpr (sizeof v == 4 * sizeof(T)) {
    return combine(combine(T{v[0]}, T{v[2]}), combine(T{v[1]}, T{v[3]}));
  } else {
    return combine(T{v[0]}, T{v[1]});
  }
}

// The sum of as many float64 as a vector of float or double has lanes.
template <int kCount>
inline double total(const double (&lanes)[kCount]) {
  f64v sum = load_unaligned<f64v>(lanes);
  if constexpr (kCount > kLanes<double>) sum += load_unaligned<f64v>(lanes + kLanes<double>);
  return across(sum, [](auto x, auto y) { return x + y; });
}

// Count the lanes where a mask is true.
template <class M, class Mask>
inline void count(M& counts, Mask mask) {
#if FMSTATS_VECTOR_BYTES == 64 && defined(__AVX512F__)
  counts = (M)mask ? counts + 1 : counts;  // one instruction: here masks are bits, not vectors
#else
  counts -= (M)mask;
#endif
}

// The lanes with index >= first.
inline i32v lanes_from(int first, f32v) {
  i32v index;
  for (int i = 0; i < kLanes<float>; ++i) index[i] = i;
  return index >= first;
}

inline i64v lanes_from(int first, f64v) {
  i64v index;
  for (int i = 0; i < kLanes<double>; ++i) index[i] = i;
  return index >= static_cast<long long>(first);
}

}  // namespace
}  // namespace fmstats
