// Vectors of 32-bit lanes as two of 64-bit lanes, and back.
#pragma once

#include "vector.h"

namespace fmstats {
namespace {

// The lower and the upper half of a vector, as float64.
inline void widen(f32v x, f64v& low, f64v& high) {
#if FMSTATS_VECTOR_BYTES == 64 && defined(__AVX512DQ__)
  low = (f64v)_mm512_cvtps_pd(_mm512_castps512_ps256((__m512)x));
  high = (f64v)_mm512_cvtps_pd(_mm512_extractf32x8_ps((__m512)x, 1));
#elif FMSTATS_VECTOR_BYTES == 32 && defined(__AVX2__)
  low = (f64v)_mm256_cvtps_pd(_mm256_castps256_ps128((__m256)x));
  high = (f64v)_mm256_cvtps_pd(_mm256_extractf128_ps((__m256)x, 1));
#elif FMSTATS_VECTOR_BYTES == 16 && defined(__SSE2__)
  low = (f64v)_mm_cvtps_pd((__m128)x);
  high = (f64v)_mm_cvtps_pd(_mm_movehl_ps((__m128)x, (__m128)x));
#else
  low = __builtin_convertvector(__builtin_shufflevector(x, x, 0, 1), f64v);
  high = __builtin_convertvector(__builtin_shufflevector(x, x, 2, 3), f64v);
#endif
}

// Two vectors of float64 as one of float32, rounded.
inline f32v narrow(f64v low, f64v high) {
#if FMSTATS_VECTOR_BYTES == 64 && defined(__AVX512DQ__)
  const __m512 half = _mm512_castps256_ps512(_mm512_cvtpd_ps((__m512d)low));
  return (f32v)_mm512_insertf32x8(half, _mm512_cvtpd_ps((__m512d)high), 1);
#elif FMSTATS_VECTOR_BYTES == 32 && defined(__AVX2__)
  return (f32v)_mm256_set_m128(_mm256_cvtpd_ps((__m256d)high), _mm256_cvtpd_ps((__m256d)low));
#elif FMSTATS_VECTOR_BYTES == 16 && defined(__SSE2__)
  return (f32v)_mm_movelh_ps(_mm_cvtpd_ps((__m128d)low), _mm_cvtpd_ps((__m128d)high));
#else
  return (f32v){static_cast<float>(low[0]), static_cast<float>(low[1]), static_cast<float>(high[0]),
                static_cast<float>(high[1])};
#endif
}

// The same of whole numbers, widened.
inline void widen(i32v x, i64v& low, i64v& high) {
#if FMSTATS_VECTOR_BYTES == 64 && defined(__AVX512DQ__)
  low = (i64v)_mm512_cvtepi32_epi64(_mm512_castsi512_si256((__m512i)x));
  high = (i64v)_mm512_cvtepi32_epi64(_mm512_extracti32x8_epi32((__m512i)x, 1));
#elif FMSTATS_VECTOR_BYTES == 32 && defined(__AVX2__)
  low = (i64v)_mm256_cvtepi32_epi64(_mm256_castsi256_si128((__m256i)x));
  high = (i64v)_mm256_cvtepi32_epi64(_mm256_extracti128_si256((__m256i)x, 1));
#elif FMSTATS_VECTOR_BYTES == 16 && defined(__SSE2__)
  const __m128i sign = _mm_srai_epi32((__m128i)x, 31);
  low = (i64v)_mm_unpacklo_epi32((__m128i)x, sign);
  high = (i64v)_mm_unpackhi_epi32((__m128i)x, sign);
#else
  low = __builtin_convertvector(__builtin_shufflevector(x, x, 0, 1), i64v);
  high = __builtin_convertvector(__builtin_shufflevector(x, x, 2, 3), i64v);
#endif
}

// Vector number kPart of the float64, or int64, that hold x.
template <int kPart>
inline f64v wide(f32v x) {
  f64v parts[2];
  widen(x, parts[0], parts[1]);
  return parts[kPart];
}
template <int kPart>
inline i64v wide(i32v x) {
  i64v parts[2];
  widen(x, parts[0], parts[1]);
  return parts[kPart];
}
template <int kPart>
inline f64v wide(f64v x) {
  return x;
}
template <int kPart>
inline i64v wide(i64v x) {
  return x;
}

// totals[lane] += x[lane], in float64.
inline void add_lanes(f32v x, double* totals) {
  f64v low, high;
  widen(x, low, high);
  low += load_unaligned<f64v>(totals);
  high += load_unaligned<f64v>(totals + kLanes<double>);
  __builtin_memcpy(totals, &low, sizeof low);
  __builtin_memcpy(totals + kLanes<double>, &high, sizeof high);
}
inline void add_lanes(f64v x, double* totals) {
  const f64v sum = load_unaligned<f64v>(totals) + x;
  __builtin_memcpy(totals, &sum, sizeof sum);
}

}  // namespace
}  // namespace fmstats
