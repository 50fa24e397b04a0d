// Reading words of elements as packs: what one register holds of them, one float32 or float64, or
// two numbers of 16 bits, which 8-bit types become. All conversions are exact, apart from the NaN
// of float8_e4m3fn, which reads as 480 (hides_nan).
#pragma once

#include "packs.cuh"

namespace fmstats {

template <int kCount>
struct __align__(4 * kCount) Words {
  unsigned w[kCount];
};

// Bytes 0 and 1, or 2 and 3, as the upper bytes of two 16-bit numbers.
__device__ __forceinline__ unsigned spread_bytes(unsigned bytes, bool upper_half) {
  return __byte_perm(bytes, 0, upper_half ? 0x3424 : 0x1404);
}

// Storage: the bits in memory. A pack is of kPack elements.
template <int kDType>
struct Element;

template <>
struct Element<kFloat32> : Singles<float> {
  typedef float Storage;
  static __device__ __forceinline__ void read(const Words<4>& v, Pack* x) {
#pragma unroll
    for (int i = 0; i < 4; ++i) x[i] = __uint_as_float(v.w[i]);
  }
  static __device__ __forceinline__ Pack pack(const Storage* x) { return x[0]; }
};

template <>
struct Element<kFloat64> : Singles<double> {
  typedef double Storage;
  static __device__ __forceinline__ void read(const Words<4>& v, Pack* x) {
#pragma unroll
    for (int i = 0; i < 2; ++i) x[i] = __hiloint2double(v.w[2 * i + 1], v.w[2 * i]);
  }
  static __device__ __forceinline__ Pack pack(const Storage* x) { return x[0]; }
};

// Both 16-bit types: a word is a pack.
template <class Pair>
struct SixteenBits : Pair {
  typedef unsigned short Storage;
  static __device__ __forceinline__ void read(const Words<4>& v, unsigned* x) {
#pragma unroll
    for (int i = 0; i < 4; ++i) x[i] = v.w[i];
  }
  static __device__ __forceinline__ unsigned pack(const Storage* x) {
    return x[0] | static_cast<unsigned>(x[1]) << 16;
  }
};

template <>
struct Element<kFloat16> : SixteenBits<Halves> {};
template <>
struct Element<kBFloat16> : SixteenBits<BrainHalves> {};

// Both 8-bit types: `of` makes two float16 of what stands in the upper bytes of a pack.
template <class Self>
struct EightBits : Halves {
  typedef unsigned char Storage;
  static __device__ __forceinline__ void read(const Words<4>& v, unsigned* x) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      x[2 * i] = Self::of(spread_bytes(v.w[i], false));
      x[2 * i + 1] = Self::of(spread_bytes(v.w[i], true));
    }
  }
  static __device__ __forceinline__ unsigned pack(const Storage* x) {
    return Self::of(static_cast<unsigned>(x[0]) << 8 | static_cast<unsigned>(x[1]) << 24);
  }
};

template <>
struct Element<kFloat8E5M2> : EightBits<Element<kFloat8E5M2>> {
  static __device__ __forceinline__ unsigned of(unsigned pair) { return pair; }  // a float16's
};

template <>
struct Element<kFloat8E4M3> : EightBits<Element<kFloat8E4M3>> {
  // Exponent and mantissa moved under those of a float16, whose bias is larger by 8.
  static __device__ __forceinline__ unsigned of(unsigned pair) {
    const unsigned moved = (pair & 0x80008000u) | ((pair >> 1) & 0x3f803f80u);
    unsigned product;
    asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(product) : "r"(moved), "r"(0x5c005c00u));  // 256
    return product;
  }
  static constexpr bool kHidesNan = true;
  static __device__ __forceinline__ bool hides_nan(float x) { return fabsf(x) == 480.0f; }
};

// Elements of a vector load.
template <class E>
constexpr int kVectorOf = kSlotBytes / static_cast<int>(sizeof(typename E::Storage));

// One element as a number.
template <class E>
__device__ __forceinline__ typename E::Real number(typename E::Storage x) {
  const typename E::Storage pair[2] = {x, x};
  return E::real(E::pack(pair), 0);
}

}  // namespace fmstats
