// Which lanes of a vector are taken: all, those where a vector is -1 and not 0, or those of a mask
// register. Of AVX-512, GCC turns a mask into a vector and back wherever it is to be the latter.
#pragma once

#include "vector.h"

namespace fmstats {
namespace {

struct AllLanes {};

// x in the lanes that are chosen, and NaN, whose bits are all ones, in the others.
template <class V, class M>
inline V nan_elsewhere(V x, M chosen) {
  return (V)((M)x | ~chosen);
}

// x in the lanes that are chosen, and 0 in the others.
template <class V, class M>
inline V zero_elsewhere(V x, M chosen) {
  return (V)((M)x & chosen);
}

#if FMSTATS_VECTOR_BYTES == 64 && defined(__AVX512F__)

inline f32v nan_elsewhere(f32v x, __mmask16 chosen) {
  return (f32v)_mm512_mask_mov_ps(_mm512_set1_ps(__builtin_nanf("")), chosen, (__m512)x);
}
inline f64v nan_elsewhere(f64v x, __mmask8 chosen) {
  return (f64v)_mm512_mask_mov_pd(_mm512_set1_pd(__builtin_nan("")), chosen, (__m512d)x);
}
inline f32v zero_elsewhere(f32v x, __mmask16 chosen) {
  return (f32v)_mm512_maskz_mov_ps(chosen, (__m512)x);
}
inline f64v zero_elsewhere(f64v x, __mmask8 chosen) {
  return (f64v)_mm512_maskz_mov_pd(chosen, (__m512d)x);
}

// The lanes with index >= first whose numbers are that of the group.
inline __mmask16 lanes_in_group(const unsigned char* numbers, unsigned char group, int first,
                                f32v) {
  const __m128i beside = load_unaligned<__m128i>(numbers), ours = _mm_set1_epi8((char)group);
  return (__mmask16)(_mm_cmpeq_epi8_mask(beside, ours) & (0xffffu << first));
}
inline __mmask8 lanes_in_group(const unsigned char* numbers, unsigned char group, int first, f64v) {
  const __m128i beside = _mm_cvtsi64_si128(load_unaligned<i64>(numbers));
  return (__mmask8)(_mm_cmpeq_epi8_mask(beside, _mm_set1_epi8((char)group)) & (0xffu << first));
}

#else

// As many bytes as there are lanes, each in a lane. GCC 12 converts so short vectors byte by byte.
inline i32v widen_bytes(const unsigned char* p, f32v) {
#if FMSTATS_VECTOR_BYTES == 32 && defined(__AVX2__)
  return (i32v)_mm256_cvtepu8_epi32(_mm_cvtsi64_si128(load_unaligned<i64>(p)));
#elif FMSTATS_VECTOR_BYTES == 16 && defined(__SSE2__)
  const __m128i zero = _mm_setzero_si128(), bytes = _mm_cvtsi32_si128(load_unaligned<int>(p));
  return (i32v)_mm_unpacklo_epi16(_mm_unpacklo_epi8(bytes, zero), zero);
#else
  i32v lanes;
  for (int i = 0; i < kLanes<float>; ++i) lanes[i] = p[i];
  return lanes;
#endif
}
inline i64v widen_bytes(const unsigned char* p, f64v) {
#if FMSTATS_VECTOR_BYTES == 32 && defined(__AVX2__)
  return (i64v)_mm256_cvtepu8_epi64(_mm_cvtsi32_si128(load_unaligned<int>(p)));
#else
  i64v lanes;
  for (int i = 0; i < kLanes<double>; ++i) lanes[i] = p[i];
  return lanes;
#endif
}

// The lanes with index >= first whose numbers are that of the group.
template <class V>
inline auto lanes_in_group(const unsigned char* numbers, unsigned char group, int first, V v) {
  const auto lanes = widen_bytes(numbers, v);
  const auto equal = (decltype(lanes))(lanes == group);
  return first == 0 ? equal : equal & lanes_from(first, v);
}

#endif

}  // namespace
}  // namespace fmstats
