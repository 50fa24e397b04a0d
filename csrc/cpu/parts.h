// Parts read and written, a channel or a vector of channels at a time.
#pragma once

#include "job.h"
#include "vector.h"

namespace fmstats {

// A vector of channels, for the formulas of ../state.h and ../parts.h.
template <>
struct Numbers<i64v> {
  typedef f64v Real;
  // An int64 as double, rounded once: halves placed in the mantissas of 2^84 and 2^52.
  static FMSTATS_MEMBER f64v real(i64v n) {
#if FMSTATS_VECTOR_BYTES == 64 && defined(__AVX512DQ__)
    return (f64v)_mm512_cvtepi64_pd((__m512i)n);
#else
    const i64v high = (i64v)((u64v)n >> 32) | 0x4530000000000000LL;
    const i64v low = (n & 0xffffffffLL) | 0x4330000000000000LL;
    return ((f64v)high - (0x1p84 + 0x1p52)) + (f64v)low;
#endif
  }
  static FMSTATS_MEMBER i64v load(const i64* p) { return load_unaligned<i64v>(p); }
  static FMSTATS_MEMBER f64v load(const double* p) { return load_unaligned<f64v>(p); }
  static FMSTATS_MEMBER void store(i64* p, i64v n) { __builtin_memcpy(p, &n, sizeof n); }
  static FMSTATS_MEMBER void store(double* p, f64v x) { __builtin_memcpy(p, &x, sizeof x); }
  static FMSTATS_MEMBER f64v as_float32(f64v x) {
    typedef float half __attribute__((vector_size(FMSTATS_VECTOR_BYTES / 2)));
    return __builtin_convertvector(__builtin_convertvector(x, half), f64v);
  }
};

namespace {

template <class Int>
inline PartialOf<Int, typename Numbers<Int>::Real> load_part(const i64* parts, i64 row,
                                                             i64 channel) {
  typedef Numbers<Int> N;
  const i64* words = parts + channel;
  const double* reals = reinterpret_cast<const double*>(words);
  PartialOf<Int, typename N::Real> part;
#define FMSTATS_COUNT(name, Name, ...) part.name = N::load(words + kPart##Name * row);
#define FMSTATS_REAL(name, Name, ...) part.name = N::load(reals + kPart##Name * row);
  FMSTATS_PART_COUNTS(FMSTATS_COUNT)
  FMSTATS_PART_REALS(FMSTATS_REAL)
#undef FMSTATS_COUNT
#undef FMSTATS_REAL
  return part;
}

template <class Int, class Real>
inline void store_part(i64* parts, i64 row, i64 channel, const PartialOf<Int, Real>& part) {
  typedef Numbers<Int> N;
  i64* words = parts + channel;
  double* reals = reinterpret_cast<double*>(words);
#define FMSTATS_COUNT(name, Name, ...) N::store(words + kPart##Name * row, part.name);
#define FMSTATS_REAL(name, Name, ...) N::store(reals + kPart##Name * row, part.name);
  FMSTATS_PART_COUNTS(FMSTATS_COUNT)
  FMSTATS_PART_REALS(FMSTATS_REAL)
#undef FMSTATS_COUNT
#undef FMSTATS_REAL
}

inline void clear_parts(i64* parts, i64 row, i64 c0, i64 c1) {
  const Partial empty = empty_partial();
  for (i64 c = c0; c < c1; ++c) store_part(parts, row, c, empty);
}

}  // namespace
}  // namespace fmstats
