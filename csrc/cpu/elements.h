// Reading elements of every dtype: one at a time as double (exact), or a vector of them as the type
// that sums are made in (float, or double for float64). All conversions are exact.
//
// Small floats are placed into the exponent and mantissa fields of a float32 and multiplied by the
// difference of the biases, which makes subnormals come out right without a branch.
#pragma once

#include "job.h"
#include "widths.h"

namespace fmstats {
namespace {

inline float bits_to_float(unsigned bits) {
  float f;
  __builtin_memcpy(&f, &bits, sizeof f);
  return f;
}

// vector(p): kLanes<Real> elements from p on. two(p, x, y): twice as many, in any order.
template <class E, class V>
inline void two_in_order(const typename E::Storage* p, V& x, V& y) {
  x = E::vector(p);
  y = E::vector(p + kLanes<typename E::Real>);
}

struct Float32 {
  typedef float Storage;
  typedef float Real;
  static double one(Storage x) { return static_cast<double>(x); }
  static f32v vector(const Storage* p) { return load_unaligned<f32v>(p); }
  static void two(const Storage* p, f32v& x, f32v& y) { two_in_order<Float32>(p, x, y); }
};

struct Float64 {
  typedef double Storage;
  typedef double Real;
  static double one(Storage x) { return x; }
  static f64v vector(const Storage* p) { return load_unaligned<f64v>(p); }
  static void two(const Storage* p, f64v& x, f64v& y) { two_in_order<Float64>(p, x, y); }
};

typedef unsigned short u16h __attribute__((vector_size(FMSTATS_VECTOR_BYTES / 2)));
typedef unsigned char u8q __attribute__((vector_size(FMSTATS_VECTOR_BYTES / 4)));

struct BFloat16 {
  typedef unsigned short Storage;
  typedef float Real;
  static double one(Storage x) { return static_cast<double>(bits_to_float(unsigned{x} << 16)); }
  static f32v vector(const Storage* p) {
    return (f32v)(__builtin_convertvector(load_unaligned<u16h>(p), u32v) << 16);
  }
  static void two(const Storage* p, f32v& x, f32v& y) {  // the odd ones are in place already
    const u32v pairs = load_unaligned<u32v>(p);
    x = (f32v)(pairs << 16);
    y = (f32v)(pairs & 0xffff0000u);
  }
};

struct Float16 {
  typedef unsigned short Storage;
  typedef float Real;
  static double one(Storage x) {
    const unsigned magnitude = x & 0x7fffu;
    const unsigned sign = (x & 0x8000u) << 16;
    if (magnitude >= 0x7c00u) return bits_to_float(sign | 0x7f800000u | (magnitude << 13));
    return bits_to_float(sign | (magnitude << 13)) * 0x1p112;
  }
  static f32v widen(u32v x) {
    const u32v magnitude = x & 0x7fffu;
    const u32v special = (u32v)((i32v)magnitude >= 0x7c00) & 0x7f800000u;
    const f32v scaled = (f32v)(magnitude << 13) * 0x1p112f;
    return (f32v)((u32v)scaled | special | ((x & 0x8000u) << 16));
  }
  static f32v vector(const Storage* p) {
#if FMSTATS_VECTOR_BYTES == 64 && defined(__AVX512F__)
    return (f32v)_mm512_cvtph_ps(load_unaligned<__m256i>(p));
#elif FMSTATS_VECTOR_BYTES == 32 && defined(__F16C__)
    return (f32v)_mm256_cvtph_ps(load_unaligned<__m128i>(p));
#else
    return widen(__builtin_convertvector(load_unaligned<u16h>(p), u32v));
#endif
  }
  static void two(const Storage* p, f32v& x, f32v& y) { two_in_order<Float16>(p, x, y); }
};

struct Float8E5M2 {  // the upper byte of a float16
  typedef unsigned char Storage;
  typedef float Real;
  static double one(Storage x) { return Float16::one(static_cast<unsigned short>(x << 8)); }
  static f32v vector(const Storage* p) {
    return Float16::widen(__builtin_convertvector(load_unaligned<u8q>(p), u32v) << 8);
  }
  static void two(const Storage* p, f32v& x, f32v& y) { two_in_order<Float8E5M2>(p, x, y); }
};

struct Float8E4M3 {  // no infinities; 0x7f and 0xff are NaN
  typedef unsigned char Storage;
  typedef float Real;
  static double one(Storage x) {
    const unsigned magnitude = x & 0x7fu;
    if (magnitude == 0x7fu) return static_cast<double>(bits_to_float(0x7fc00000u));
    return static_cast<double>(bits_to_float(((x & 0x80u) << 24) | (magnitude << 20)) * 0x1p120f);
  }
  static f32v vector(const Storage* p) {
    const u32v x = __builtin_convertvector(load_unaligned<u8q>(p), u32v);
    const u32v magnitude = x & 0x7fu;
    const u32v nan = (u32v)(magnitude == 0x7fu) & 0x7fc00000u;
    const f32v scaled = (f32v)(magnitude << 20) * 0x1p120f;
    return (f32v)((u32v)scaled | nan | ((x & 0x80u) << 24));
  }
  static void two(const Storage* p, f32v& x, f32v& y) { two_in_order<Float8E4M3>(p, x, y); }
};

// How many variants of a kernel there are, by the comparisons it does: see choose_by_mode. Few x86
// processors lack AVX2, and few tensors are float64 or have 8 bits an element.
#if defined(__x86_64__) && !defined(__AVX2__)
constexpr int kMostVariants = 2;
#else
constexpr int kMostVariants = 3;
#endif
template <class E>
constexpr int kVariantsOf = sizeof(typename E::Storage) == 1   ? 1
                            : sizeof(typename E::Storage) == 8 ? 2
                                                               : kMostVariants;
// The same of kernels that are run less.
template <class E>
constexpr int kFewVariantsOf = kVariantsOf<E> < 2 ? 1 : 2;

// wide<kPart>(x) of x that was read from p.
template <int kPart, class E, class V>
inline f64v wide_from(const typename E::Storage* p, V x) {
#if FMSTATS_VECTOR_BYTES == 64 && defined(__AVX512F__)
  // From memory this is one operation, from the upper half of a register three.
  if constexpr (sizeof(typename E::Storage) == sizeof(float)) {
    return (f64v)_mm512_cvtps_pd(_mm256_loadu_ps(p + kPart * kLanes<double>));
  }
#endif
  (void)p;
  return wide<kPart>(x);
}

// Call visit with the element type of a dtype.
template <class Visit>
inline void with_element(DType dtype, Visit visit) {
  switch (dtype) {
    case kFloat64:
      return visit(Float64{});
    case kFloat16:
      return visit(Float16{});
    case kBFloat16:
      return visit(BFloat16{});
    case kFloat8E4M3:
      return visit(Float8E4M3{});
    case kFloat8E5M2:
      return visit(Float8E5M2{});
    default:
      return visit(Float32{});
  }
}

}  // namespace
}  // namespace fmstats
