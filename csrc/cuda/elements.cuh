// Reading words of elements as the type that sums are made in. All conversions are exact, apart
// from the NaN of float8_e4m3fn, which reads as 480 (HiddenNan).
#pragma once

#include "../statistic.h"
#include "../view.h"

namespace fmstats {

template <int kCount>
struct __align__(4 * kCount) Words {
  unsigned w[kCount];
};

__device__ __forceinline__ float half_bits(unsigned short h) {
  float f;
  asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h));
  return f;
}

__device__ __forceinline__ void halves(unsigned pair, float& low, float& high) {
  low = half_bits(static_cast<unsigned short>(pair));
  high = half_bits(static_cast<unsigned short>(pair >> 16));
}

// Bytes 0 and 1, or 2 and 3, as the upper bytes of two 16-bit numbers.
__device__ __forceinline__ unsigned spread(unsigned bytes, int upper_half) {
  return __byte_perm(bytes, 0, upper_half ? 0x3424 : 0x1404);
}

// Storage: the bits in memory. Real: what they are summed in.
template <int kDType>
struct Element;

template <>
struct Element<kFloat32> {
  typedef float Storage;
  typedef float Real;
  template <int kCount>
  static __device__ __forceinline__ void read(const Words<kCount>& v, Real* x) {
    for (int i = 0; i < kCount; ++i) x[i] = __uint_as_float(v.w[i]);
  }
  static __device__ __forceinline__ Real one(Storage x) { return x; }
};

template <>
struct Element<kFloat64> {
  typedef double Storage;
  typedef double Real;
  template <int kCount>
  static __device__ __forceinline__ void read(const Words<kCount>& v, Real* x) {
    for (int i = 0; i < kCount / 2; ++i) x[i] = __hiloint2double(v.w[2 * i + 1], v.w[2 * i]);
  }
  static __device__ __forceinline__ Real one(Storage x) { return x; }
};

template <>
struct Element<kFloat16> {
  typedef unsigned short Storage;
  typedef float Real;
  template <int kCount>
  static __device__ __forceinline__ void read(const Words<kCount>& v, Real* x) {
    for (int i = 0; i < kCount; ++i) halves(v.w[i], x[2 * i], x[2 * i + 1]);
  }
  static __device__ __forceinline__ Real one(Storage x) { return half_bits(x); }
};

template <>
struct Element<kBFloat16> {
  typedef unsigned short Storage;
  typedef float Real;
  template <int kCount>
  static __device__ __forceinline__ void read(const Words<kCount>& v, Real* x) {
    for (int i = 0; i < kCount; ++i) {
      x[2 * i] = __uint_as_float(v.w[i] << 16);
      x[2 * i + 1] = __uint_as_float(v.w[i] & 0xffff0000u);
    }
  }
  static __device__ __forceinline__ Real one(Storage x) {
    return __uint_as_float(static_cast<unsigned>(x) << 16);
  }
};

template <>
struct Element<kFloat8E5M2> {  // the upper byte of a float16
  typedef unsigned char Storage;
  typedef float Real;
  template <int kCount>
  static __device__ __forceinline__ void read(const Words<kCount>& v, Real* x) {
    for (int i = 0; i < kCount; ++i) {
      halves(spread(v.w[i], 0), x[4 * i], x[4 * i + 1]);
      halves(spread(v.w[i], 1), x[4 * i + 2], x[4 * i + 3]);
    }
  }
  static __device__ __forceinline__ Real one(Storage x) {
    return half_bits(static_cast<unsigned short>(x << 8));
  }
};

template <>
struct Element<kFloat8E4M3> {
  typedef unsigned char Storage;
  typedef float Real;
  // Exponent and mantissa moved under those of a float16, whose bias is larger by 8.
  static __device__ __forceinline__ unsigned scaled(unsigned pair) {
    const unsigned moved = (pair & 0x80008000u) | ((pair >> 1) & 0x3f803f80u);
    unsigned product;
    asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(product) : "r"(moved), "r"(0x5c005c00u));  // 256
    return product;
  }
  template <int kCount>
  static __device__ __forceinline__ void read(const Words<kCount>& v, Real* x) {
    for (int i = 0; i < kCount; ++i) {
      halves(scaled(spread(v.w[i], 0)), x[4 * i], x[4 * i + 1]);
      halves(scaled(spread(v.w[i], 1)), x[4 * i + 2], x[4 * i + 3]);
    }
  }
  static __device__ __forceinline__ Real one(Storage x) {
    float low, high;
    halves(scaled(static_cast<unsigned>(x) << 8), low, high);
    return low;
  }
};

// Elements of 16 bytes.
template <class E>
constexpr int kVectorOf = 16 / sizeof(typename E::Storage);

// Whether a value that `read` or `one` gave stands for NaN; without the test of NaN itself.
template <class E>
struct HiddenNan {
  static __device__ __forceinline__ bool is(typename E::Real) { return false; }
};
template <>
struct HiddenNan<Element<kFloat8E4M3>> {
  static __device__ __forceinline__ bool is(float x) { return fabsf(x) > 448.0f; }
};

}  // namespace fmstats
