// One thread's walk over a channel, chunk by chunk: rows and strided.
#pragma once

#include "bins.cuh"
#include "lane.cuh"

namespace fmstats {

// Two chains of sums a channel, to hide the latency of additions: two lanes, or one of pairs.
template <class E, int kMode>
struct Chains {
  typedef typename E::Storage Storage;
  typedef typename E::Pack Pack;
  static constexpr int kLanes = 2 / E::kPack;

  __device__ Chains(const CudaArgs& a, typename E::Real of_channel) : limits(a) {
#pragma unroll
    for (int c = 0; c < E::kPack; ++c) pivot[c] = of_channel;
  }

  __device__ __forceinline__ void begin() {
#pragma unroll
    for (int i = 0; i < kLanes; ++i) lane[i].begin();
  }

  // A gulp of vectors, of each all elements or those whose bits are set.
  template <class Present, int kCount>
  __device__ __forceinline__ void take(const Words<4> (&held)[kCount],
                                       const Present (&present)[kCount]) {
    constexpr int kPacks = kVectorOf<E> / E::kPack;
    constexpr int kVectors = kRoundings / (kPacks / kLanes);  // that a lane adds up in float32
    static_assert(!Lane<E, kMode>::kSettles || kVectors > 0, "a lane must settle in time");
#pragma unroll
    for (int u = 0; u < kCount; ++u) {
      if (present[u]) {
        Pack x[kPacks];
        E::read(held[u], x);
#pragma unroll
        for (int i = 0; i < kPacks; ++i) {
          take(lane[i % kLanes], x[i], present[u], i);
        }
      }
      if (u % kVectors == kVectors - 1 || u == kCount - 1) settle();
    }
  }

  // A gulp of elements.
  template <class Present, int kCount>
  __device__ __forceinline__ void take(const Storage (&held)[kCount],
                                       const Present (&present)[kCount]) {
    static_assert(kCount / 2 <= kRoundings, "a lane must settle in time");
#pragma unroll
    for (int u = 0; u < kCount; u += E::kPack) {
      unsigned marks = present[u];
      if (E::kPack == 2) marks = (present[u] ? 0xffffu : 0) | (present[u + 1] ? 0xffff0000u : 0);
      lane[u / E::kPack % kLanes].take_some(E::pack(held + u), marks, pivot, limits);
    }
    settle();
  }

  __device__ __forceinline__ void settle() {
#pragma unroll
    for (int i = 0; i < kLanes; ++i) lane[i].settle();
  }

  __device__ __forceinline__ bool is_finite() const {
    bool finite = true;
#pragma unroll
    for (int i = 0; i < kLanes; ++i) finite &= lane[i].is_finite();
    return finite;
  }

  __device__ __forceinline__ void flush(bool finite, Partial& part) {
#pragma unroll
    for (int i = 0; i < kLanes; ++i) {
      if (!finite) lane[i].drop_moments();
#pragma unroll
      for (int c = 0; c < E::kPack; ++c) add(part, lane[i].part(c));
    }
  }

  const Limits<E> limits;
  typename E::Real pivot[E::kPack];
  Lane<E, kMode> lane[kLanes];

 private:
  // Pack number i of a vector that is there, or the elements of it whose bits are set.
  __device__ __forceinline__ void take(Lane<E, kMode>& into, Pack x, bool, int) {
    into.take(x, pivot, limits);
  }
  __device__ __forceinline__ void take(Lane<E, kMode>& into, Pack x, unsigned bits, int i) {
    bits >>= i * E::kPack;
    unsigned marks = bits & 1;
    if (E::kPack == 2) marks = (bits & 1 ? 0xffffu : 0) | (bits & 2 ? 0xffff0000u : 0);
    into.take_some(x, marks, pivot, limits);
  }
};

// Add `count` slots of a walk to `part`. What is chosen of a gulp is asked for before anything is
// loaded, so that loads wait for one answer and not for one each. Counter: of what is asked for.
template <class E, int kMode, class Walk, class Counter, class Part>
__device__ __forceinline__ void measure(const CudaArgs& a, Walk walk, i64 count,
                                        typename E::Real pivot, const Counter& counter,
                                        Part& part) {
  constexpr int kChunk = 2 * kChunkElements / Walk::kElements, kLoads = Walk::kLoads;
  static_assert(kChunk % kLoads == 0, "a gulp must not reach over two chunks");
  Chains<E, kMode> chains(a, pivot);
  Taker<E, Counter> taker = {powers_of(part), static_cast<double>(pivot), counter};
#pragma unroll 1
  while (count > 0) {
    const Walk start = walk;
    const int n = static_cast<int>(count < kChunk ? count : kChunk);
    int counted = 0;
    chains.begin();
#pragma unroll 1
    for (int i = 0; i < n; i += kLoads) {
      typename Walk::Held held[kLoads];
      typename Walk::Present present[kLoads];
      if constexpr (kCounted<Part>) {
        const int before = counted;
#pragma unroll
        for (int u = 0; u < kLoads; ++u) {
          present[u] = i + u < n ? walk.present(u) : 0;
          counted += __popc(present[u]);
        }
        if (counted == before) {
          walk.skip(kLoads);
          continue;
        }
      }
#pragma unroll
      for (int u = 0; u < kLoads; ++u) {
        if constexpr (!kCounted<Part>) present[u] = i + u < n && walk.present();
        if constexpr (Walk::kElements == 1) held[u] = {};
        if (present[u]) held[u] = walk.load();
        walk.advance();
      }
      chains.take(held, present);
      if constexpr (kAsks) take_gulp(taker, held, present);
    }
    const bool finite = chains.is_finite();
    chains.flush(finite, part);
    count_positions(part, counted);
    if (!finite) {
      Walk again = start;
#pragma unroll 1
      for (int i = 0; i < n; ++i) {
        if (again.present()) {
          again.each(
              [&](typename E::Real x) { take_moments<E, kMode>(x, pivot, a.thresholds, part); });
        }
        again.advance();
      }
    }
    count -= n;
  }
}

}  // namespace fmstats
