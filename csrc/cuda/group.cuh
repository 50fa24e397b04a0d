// The threads that measure one channel together, a warp or a block: adding up what each has, in an
// order that depends on nothing but their number.
#pragma once

#include "args.h"

namespace fmstats {

constexpr unsigned kEveryLane = 0xffffffffu;

// A part of some positions of a channel, and how many they are. Their number has the word after the
// fields and adds up as a sum does: it is exact.
struct CountedPart : Partial {
  double positions;
};

// A part with the power sums of its elements, whose words come last.
template <class Base>
struct SummedPart : Base {
  PowerSums powers;
};

template <class Part>
constexpr bool kCounted = false;
template <>
constexpr bool kCounted<CountedPart> = true;
template <class Base>
constexpr bool kCounted<SummedPart<Base>> = kCounted<Base>;

template <class Part>
constexpr bool kSummed = false;
template <class Base>
constexpr bool kSummed<SummedPart<Base>> = true;

// Words of a part in memory, and before its power sums.
template <class Part>
constexpr int kPlainWords = kPartFields + (kCounted<Part> ? 1 : 0);
template <class Part>
constexpr int kPartWords = kPlainWords<Part> + (kSummed<Part> ? kPowerSums : 0);

// Power sum number i.
__device__ __forceinline__ double& power_sum(PowerSums& powers, int i) {
  return reinterpret_cast<double*>(&powers)[i];
}
__device__ __forceinline__ double power_sum(const PowerSums& powers, int i) {
  return reinterpret_cast<const double*>(&powers)[i];
}

// Count positions that a part is of.
__device__ __forceinline__ void count_positions(Partial&, int) {}
__device__ __forceinline__ void count_positions(CountedPart& part, int n) {
  part.positions += n;
}

__device__ __forceinline__ void add(CountedPart& into, const CountedPart& part) {
  add(static_cast<Partial&>(into), static_cast<const Partial&>(part));
  into.positions += part.positions;
}
template <class Base>
__device__ __forceinline__ void add(SummedPart<Base>& into, const SummedPart<Base>& part) {
  add(static_cast<Base&>(into), static_cast<const Base&>(part));
  add(into.powers, part.powers);
}

// Of no positions.
template <class Part>
__device__ __forceinline__ Part empty_part() {
  Part part = {};
  static_cast<Partial&>(part) = empty_partial();
  return part;
}

// The part that `word(field)` gives.
template <class Part, class Word>
__device__ __forceinline__ Part part_from(Word word) {
  Part part;
#define FMSTATS_COUNT(name, Name, ...) part.name = word(kPart##Name);
#define FMSTATS_REAL(name, Name, ...) part.name = __longlong_as_double(word(kPart##Name));
  FMSTATS_PART_COUNTS(FMSTATS_COUNT)
  FMSTATS_PART_REALS(FMSTATS_REAL)
#undef FMSTATS_COUNT
#undef FMSTATS_REAL
  if constexpr (kCounted<Part>) part.positions = __longlong_as_double(word(kPartFields));
  if constexpr (kSummed<Part>) {
#pragma unroll
    for (int i = 0; i < kPowerSums; ++i) {
      power_sum(part.powers, i) = __longlong_as_double(word(kPlainWords<Part> + i));
    }
  }
  return part;
}
template <class Part>
__device__ __forceinline__ Part part_of(const i64* words, i64 step) {
  return part_from<Part>([&](int field) { return words[field * step]; });
}
// Of one that other blocks wrote: not from the first-level cache.
template <class Part>
__device__ __forceinline__ Part load_part(const i64* words, i64 step) {
  return part_from<Part>([&](int field) { return __ldcg(words + field * step); });
}

// Of any field, known at run time: identity and sum of words.
__device__ __forceinline__ i64 identity_word(int field) {
  double x = 0.0;
#define FMSTATS_EXTREME(name, Name, join, side) \
  if (field == kPart##Name) x = side infinity();
  FMSTATS_EXTREMES(FMSTATS_EXTREME)
#undef FMSTATS_EXTREME
  return __double_as_longlong(x);
}
__device__ __forceinline__ i64 add_words(int field, i64 a, i64 b) {
  if (field < kPartCounts) return a + b;
  const double x = __longlong_as_double(a), y = __longlong_as_double(b);
#define FMSTATS_EXTREME(name, Name, join, ...) \
  if (field == kPart##Name) return __double_as_longlong(join(x, y));
  FMSTATS_EXTREMES(FMSTATS_EXTREME)
#undef FMSTATS_EXTREME
  return __double_as_longlong(x + y);
}

// The sum of a field over a warp, in every lane.
__device__ __forceinline__ i64 warp_word(int field, i64 word) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) {
    word = add_words(field, word, __shfl_xor_sync(kEveryLane, word, step));
  }
  return word;
}

__device__ __forceinline__ double warp_real(int field, double x) {
  return __longlong_as_double(warp_word(field, __double_as_longlong(x)));
}

template <int kMode, class Part>
__device__ __forceinline__ Part warp_sum(const Part& p) {
  Part sum = empty_part<Part>();
#define FMSTATS_OR(name, ...) | p.name
#define FMSTATS_COUNT(name, Name, ...) sum.name = warp_word(kPart##Name, p.name);
#define FMSTATS_COMPARISON(name, Name, Mode) \
  if (kMode >= k##Mode) sum.name = warp_word(kPart##Name, p.name);
#define FMSTATS_REAL(name, Name, ...) sum.name = warp_real(kPart##Name, p.name);
  if (__any_sync(kEveryLane, (0 FMSTATS_NON_FINITE(FMSTATS_OR)) != 0)) {
    FMSTATS_NON_FINITE(FMSTATS_COUNT)
  }
  FMSTATS_COMPARISONS(FMSTATS_COMPARISON)
  FMSTATS_PART_REALS(FMSTATS_REAL)
#undef FMSTATS_OR
#undef FMSTATS_COUNT
#undef FMSTATS_COMPARISON
#undef FMSTATS_REAL
  if constexpr (kCounted<Part>) sum.positions = warp_real(kPartFields, p.positions);
  if constexpr (kSummed<Part>) {
#pragma unroll
    for (int i = 0; i < kPowerSums; ++i) {
      power_sum(sum.powers, i) = warp_real(kPlainWords<Part> + i, power_sum(p.powers, i));
    }
  }
  return sum;
}

// The first words of `shared` that a sum over a block of `threads` takes.
template <class Part>
__host__ __device__ constexpr int sum_words(int threads) {
  return threads / kWarp * kPartWords<Part>;
}

template <class Part>
__device__ __forceinline__ void store_part(i64* words, i64 step, const Part& p) {
#define FMSTATS_COUNT(name, Name, ...) words[kPart##Name * step] = p.name;
#define FMSTATS_REAL(name, Name, ...) words[kPart##Name * step] = __double_as_longlong(p.name);
  FMSTATS_PART_COUNTS(FMSTATS_COUNT)
  FMSTATS_PART_REALS(FMSTATS_REAL)
#undef FMSTATS_COUNT
#undef FMSTATS_REAL
  if constexpr (kCounted<Part>) words[kPartFields * step] = __double_as_longlong(p.positions);
  if constexpr (kSummed<Part>) {
#pragma unroll
    for (int i = 0; i < kPowerSums; ++i) {
      words[(kPlainWords<Part> + i) * step] = __double_as_longlong(power_sum(p.powers, i));
    }
  }
}

// kSize: kWarp, or all threads of the block.
template <int kSize>
struct Group {
  static constexpr int size = kSize;
  const int rank;  // this thread

  __device__ Group() : rank(static_cast<int>(threadIdx.x) % kSize) {}

  // The sum over the group, in every thread. `shared`: sum_words<Part>(kSize), unused by a warp.
  template <int kMode, class Part>
  __device__ Part sum(const Part& mine, i64* shared) const {
    constexpr int kWords = kPartWords<Part>;
    const Part warp = warp_sum<kMode>(mine);
    if constexpr (kSize == kWarp) return warp;
    if (rank % kWarp == 0) store_part(shared + rank / kWarp * kWords, 1, warp);
    __syncthreads();
    Part all = part_of<Part>(shared, 1);
    for (int w = 1; w < kSize / kWarp; ++w) add(all, part_of<Part>(shared + w * kWords, 1));
    __syncthreads();  // before anyone writes `shared` again
    return all;
  }

  // What thread 0 has of both, in every thread; whether x is other than 0. `shared`: 2 words,
  // unused by a warp.
  __device__ bool first(double& x, double& y, i64* shared) const {
    if constexpr (kSize == kWarp) {
      x = __shfl_sync(kEveryLane, x, 0);
      y = __shfl_sync(kEveryLane, y, 0);
      return x != 0.0;
    }
    if (rank == 0) {
      shared[0] = __double_as_longlong(x);
      shared[1] = __double_as_longlong(y);
    }
    __syncthreads();
    x = __longlong_as_double(shared[0]);
    y = __longlong_as_double(shared[1]);
    __syncthreads();
    return x != 0.0;
  }
};

// Take a ticket; true for the last of `count` blocks, which resets it and sees what all have
// written. Called by every thread of the block.
__device__ __forceinline__ bool is_last(unsigned* ticket, unsigned count) {
  __shared__ int last;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    __threadfence();  // what the barrier showed this thread, too
    last = atomicInc(ticket, count - 1) == count - 1;
  }
  __syncthreads();
  __threadfence();
  return last != 0;
}

}  // namespace fmstats
