// What a thread does with an element for what is asked for: it adds up powers, and counts in a
// histogram. It takes the elements that the lanes take, from the registers that hold them.
#pragma once

#include "group.cuh"
#include "walk.cuh"

#if !defined(FMSTATS_ASKED_SUMS)
#define FMSTATS_ASKED_SUMS 0
#define FMSTATS_ASKED_SCOPE 0
#define FMSTATS_ASKED_RESOLUTION 0
#endif

namespace fmstats {

// What this kernel is compiled for.
constexpr Asked kAsked = {FMSTATS_ASKED_SUMS, static_cast<Scope>(FMSTATS_ASKED_SCOPE),
                          FMSTATS_ASKED_RESOLUTION};
constexpr bool kCountsBins = kAsked.scope != kNoHistogram;
constexpr bool kAsks = kAsked.sums || kCountsBins;

// A part, with all that is added up of its elements.
template <class Base>
using AskedPart = typename Select<kAsked.sums, SummedPart<Base>, Base>::type;

// Where power sums go: null where there are none.
__device__ __forceinline__ PowerSums* powers_of(Partial&) {
  return nullptr;
}
template <class Base>
__device__ __forceinline__ PowerSums* powers_of(SummedPart<Base>& part) {
  return &part.powers;
}

__device__ __forceinline__ unsigned bits_of(float x) {
  return __float_as_uint(x);
}
__device__ __forceinline__ unsigned long long bits_of(double x) {
  return static_cast<unsigned long long>(__double_as_longlong(x));
}

// Whether these are the bits of a finite number that is not 0: one comparison, since 0 less 1 is
// the largest number.
__device__ __forceinline__ bool has_bin(unsigned bits) {
  return (bits & 0x7fffffffu) - 1 < 0x7f800000u - 1;
}
__device__ __forceinline__ bool has_bin(unsigned long long bits) {
  return (bits & 0x7fffffffffffffffULL) - 1 < 0x7ff0000000000000ULL - 1;
}

// Takes elements of one channel. Counter: where a thread counts them, see bins.cuh.
template <class E, class Counter>
struct Taker {
  PowerSums* powers;
  double pivot;
  Counter counter;

  __device__ __forceinline__ void take(typename E::Real x) {
    const bool hidden = E::hides_nan(x);
    if constexpr (kAsked.sums) {
      if (!hidden) add_powers(static_cast<double>(x), pivot, *powers);
    }
    if constexpr (kCountsBins) {
      const auto bits = bits_of(x);
      counter.count(bin_of(bits, kAsked.resolution), has_bin(bits) && !hidden);
    }
  }
};

// Takes elements of neighbouring channels.
template <class E, class Counter, int kChannels>
struct Takers {
  PowerSums powers[kChannels];
  Counter counter[kChannels];

  __device__ __forceinline__ void take(typename E::Real x, int c, typename E::Real pivot) {
    if constexpr (kAsks) Taker<E, Counter>{powers + c, pivot, counter[c]}.take(x);
  }
};

// Whether element i of a vector is there, of one that is there.
__device__ __forceinline__ bool has_element(bool, int) {
  return true;
}
__device__ __forceinline__ bool has_element(unsigned bits, int i) {
  return (bits >> i & 1) != 0;
}

// Take a gulp of vectors, of each all elements or those whose bits are set.
template <class E, class Counter, class Present, int kCount>
__device__ __forceinline__ void take_gulp(Taker<E, Counter>& taker, const Words<4> (&held)[kCount],
                                          const Present (&present)[kCount]) {
  constexpr int kPacks = kVectorOf<E> / E::kPack;
#pragma unroll
  for (int u = 0; u < kCount; ++u) {
    if (!present[u]) continue;
    typename E::Pack x[kPacks];
    E::read(held[u], x);
#pragma unroll
    for (int i = 0; i < kVectorOf<E>; ++i) {
      if (has_element(present[u], i)) taker.take(E::real(x[i / E::kPack], i % E::kPack));
    }
  }
}

// Take a gulp of elements.
template <class E, class Counter, class Present, int kCount>
__device__ __forceinline__ void take_gulp(Taker<E, Counter>& taker,
                                          const typename E::Storage (&held)[kCount],
                                          const Present (&present)[kCount]) {
#pragma unroll
  for (int u = 0; u < kCount; ++u) {
    if (present[u]) taker.take(number<E>(held[u]));
  }
}

}  // namespace fmstats
