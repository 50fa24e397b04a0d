// Histograms in shared memory, and where a thread counts in them. A block adds them to those of the
// state when it is through its part: integers, which give the same sums in any order.
//
// A block is given fewer than 2^31 elements (planner.cpp), so that no count overflows. Every word
// is there kCopies times, side by side; each lane of a warp has one of these. So no more than
// kWarp / kCopies lanes meet in a bank of shared memory, however alike their elements are.
#pragma once

#include "chosen.cuh"

namespace fmstats {

constexpr int kBinWords = histogram_words(kAsked.resolution);

// The histogram of a state that counts a channel of it.
template <class Args>
__device__ __forceinline__ i64* bins_of(const Args& a, i64 channel) {
  const i64 histogram = kAsked.scope == kOfChannel ? channel : Chosen<Args>::group_of(a, channel);
  return a.requested.bins + histogram * kBinWords;
}

// Copies of each word that so many bytes have room for: a power of 2, or 0.
FMSTATS_FN constexpr int copies_in(int bytes, int histograms) {
  int copies = kWarp;
  while (copies > 0 && copies * histograms * kBinWords * 4 > bytes) copies /= 2;
  return copies;
}

// One histogram of kHistograms, as a thread counts in it.
template <int kCopies>
struct Counter {
  unsigned counts;  // of this thread's copy: its address in shared memory

  // Not atomicAdd, for which ptxas works out the whole address anew: three instructions an element.
  __device__ __forceinline__ void count(int bin, bool counted) const {
    const unsigned at = counts + bin * (4 * kCopies);
    if (counted) asm volatile("red.shared.add.u32 [%0], 1;" : : "r"(at) : "memory");
  }
};
// Shared memory has no room: in the state itself.
template <>
struct Counter<0> {
  i64* bins;
  __device__ __forceinline__ void count(int bin, bool counted) const {
    if (counted) atomicAdd(reinterpret_cast<unsigned long long*>(bins + bin), 1ULL);
  }
};
// Nothing is counted.
struct NoCounter {};

// The histograms of a block, in so many bytes of shared memory or less.
template <int kHistograms, int kBytes>
class SharedBins {
  static constexpr int kCopies = copies_in(kBytes, kHistograms);

 public:
  // Called by all threads of a block, which then meet.
  __device__ __forceinline__ void clear() {
    if constexpr (kCopies > 0) {
      for (int i = threadIdx.x; i < kWords; i += blockDim.x) counts_[i] = 0;
    }
  }
  __device__ __forceinline__ void meet() const { __syncthreads(); }

  // bins: the histogram of the state that this one is added to.
  __device__ __forceinline__ Counter<kCopies> counter(int histogram, i64* bins) {
    if constexpr (kCopies > 0) {
      const int word = histogram * kBinWords * kCopies + threadIdx.x % kCopies;
      return {static_cast<unsigned>(__cvta_generic_to_shared(counts_ + word))};
    } else {
      return {bins};
    }
  }

  // Add a histogram to one of the state, by so many threads of which this is number `rank`, after
  // all that count have met.
  __device__ __forceinline__ void add_to(i64* bins, int histogram, int rank, int threads) const {
    if constexpr (kCopies > 0) {
#pragma unroll 1
      for (unsigned bin = rank; bin < kBinWords; bin += threads) {
        const unsigned* copies = counts_ + (histogram * kBinWords + bin) * kCopies;
        // Neighbouring threads begin with other copies: each reads from a bank of its own.
        const unsigned first = bin / (kWarp / kCopies);
        unsigned long long count = 0;
#pragma unroll
        for (unsigned i = 0; i < kCopies; ++i) count += copies[(first + i) % kCopies];
        if (count != 0) atomicAdd(reinterpret_cast<unsigned long long*>(bins + bin), count);
      }
    }
  }

 private:
  static constexpr int kWords = kHistograms * kBinWords * kCopies;
  unsigned counts_[kWords > 0 ? kWords : 1];
};

// What stands in its place in kernels that count nothing.
struct NoBins {
  __device__ __forceinline__ void clear() {}
  __device__ __forceinline__ void meet() const {}
  __device__ __forceinline__ NoCounter counter(int, i64*) { return {}; }
  __device__ __forceinline__ void add_to(i64*, int, int, int) const {}
};

template <int kHistograms, int kBytes>
using Bins = typename Select<kCountsBins, SharedBins<kHistograms, kBytes>, NoBins>::type;

}  // namespace fmstats
