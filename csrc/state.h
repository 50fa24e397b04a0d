// What is known of a channel, and how two states become one.
//
// The Python twin is fmstats/statistic/state.py; fields.h declares the fields for both. This header
// is compiled under several instruction sets and by NVRTC, so it includes nothing else and every
// function in it is static: a shared inline function could be taken from the AVX-512 object and run
// on a machine without AVX-512. The same holds for each header that includes it here.
//
// State in memory: 8-byte words, field-major, word(field, channel) = base[field * row + channel].
// Counts and firsts are int64, moments are float64 in the same words.
#pragma once

#include "fields.h"

// Always inlined: structs of vectors would else be passed in memory, for more than the formulas
// cost. FMSTATS_MEMBER: a member cannot be static in this sense.
#if defined(__CUDACC__)
#define FMSTATS_FN static __host__ __device__ __forceinline__
#define FMSTATS_MEMBER __host__ __device__ __forceinline__
#define FMSTATS_MEMCPY memcpy
#else
#define FMSTATS_FN __attribute__((always_inline)) static inline
#define FMSTATS_MEMBER __attribute__((always_inline)) inline
#define FMSTATS_MEMCPY __builtin_memcpy
#endif

namespace fmstats {

typedef long long i64;

// The rows of a state.
#define FMSTATS_ROW(name, Name, ...) k##Name,
enum Field { FMSTATS_FIELDS(FMSTATS_ROW) kFields };
#undef FMSTATS_ROW

// The words of a clock: the time, in the terms of each first; a word that is 0 until a kernel meets
// an element that is no finite number; and the gate of graphs, whose replays no host decides on:
// whether passes are measured at all, the first of how many, the number of this one among so many,
// and how many passes were replayed and how many of those measured.
#define FMSTATS_NOW(name, Name, ...) kNow##Name,
enum ClockWord {
  FMSTATS_FIRSTS(FMSTATS_NOW) kAlarm,
  kEnabled,
  kEvery,
  kPhase,
  kReplayed,
  kReplayedMeasured,
  kClockWords
};
#undef FMSTATS_NOW

// The formulas below take one channel (Int = i64, Real = double) or a vector of channels; a choice
// is written `mask ? a : b`, which both have.
template <class Int>
struct Numbers {
  typedef double Real;
  static FMSTATS_MEMBER Real real(Int n) { return static_cast<double>(n); }
  static FMSTATS_MEMBER Int load(const i64* p) { return *p; }
  static FMSTATS_MEMBER Real load(const double* p) { return *p; }
  static FMSTATS_MEMBER void store(i64* p, Int n) { *p = n; }
  static FMSTATS_MEMBER void store(double* p, Real x) { *p = x; }
  static FMSTATS_MEMBER Real from_bits(Int bits) {
    Real x;
    FMSTATS_MEMCPY(&x, &bits, sizeof x);
    return x;
  }
  static FMSTATS_MEMBER Real as_float32(Real x) {
    return static_cast<double>(static_cast<float>(x));
  }
};

// What is known of a channel: all data that it has seen. Its firsts stay in memory: they are read
// and written only where an element is no finite number.
template <class Int, class Real>
struct ChannelStateOf {
#define FMSTATS_COUNT(name, ...) Int name;
#define FMSTATS_REAL(name, ...) Real name;
  FMSTATS_COUNTS(FMSTATS_COUNT)
  FMSTATS_REALS(FMSTATS_REAL)
#undef FMSTATS_COUNT
#undef FMSTATS_REAL
};

typedef ChannelStateOf<i64, double> ChannelState;

FMSTATS_FN double infinity() {
  return Numbers<i64>::from_bits(0x7ff0000000000000);  // NVRTC has no __builtin_inf
}

template <class Real>
FMSTATS_FN Real smaller(Real a, Real b) {
  return b < a ? b : a;
}

template <class Real>
FMSTATS_FN Real larger(Real a, Real b) {
  return b > a ? b : a;
}

template <class Int, class Real>
FMSTATS_FN Int finite_count(const ChannelStateOf<Int, Real>& s) {
  return s.count - s.nan - s.pos_inf - s.neg_inf;
}

template <class Int>
FMSTATS_FN typename Numbers<Int>::Real at_least_one(Int n) {
  return Numbers<Int>::real(n == 0 ? Int{} + 1 : n);
}

// What merging b into a adds to m2: b's own, and that of the distance of the means.
template <class Int, class Real>
FMSTATS_FN Real gained_m2(const ChannelStateOf<Int, Real>& a, const ChannelStateOf<Int, Real>& b) {
  const Int na = finite_count(a), nb = finite_count(b);
  const Real delta = b.mean - a.mean;
  const Real share = Numbers<Int>::real(nb) / at_least_one(na + nb);
  // In this order nothing overflows or underflows that the product does not.
  const Real apart = delta * (Numbers<Int>::real(na) * share) * delta;
  // Where a side is empty its mean means nothing, and delta may overflow.
  return na == 0 ? b.m2 : nb == 0 ? Real{} : b.m2 + apart;
}

// Combine two states as if their data had been seen together (Chan, Golub, LeVeque 1979).
template <class Int, class Real>
FMSTATS_FN ChannelStateOf<Int, Real> merge(const ChannelStateOf<Int, Real>& a,
                                           const ChannelStateOf<Int, Real>& b) {
  const Int na = finite_count(a), nb = finite_count(b);
  const Real share = Numbers<Int>::real(nb) / at_least_one(na + nb);
  const Real delta = b.mean - a.mean;
  // A distance beyond float64 is gone in halves.
  const Real half = (0.5 * b.mean - 0.5 * a.mean) * share;
  const Real mean =
      (delta < 0 ? -delta : delta) < infinity() ? a.mean + delta * share : a.mean + half + half;
  ChannelStateOf<Int, Real> s;
#define FMSTATS_SUM(name, ...) s.name = a.name + b.name;
#define FMSTATS_EXTREME(name, Name, join, ...) s.name = join(a.name, b.name);
  FMSTATS_COUNTS(FMSTATS_SUM)
  FMSTATS_SUMS(FMSTATS_SUM)
  FMSTATS_EXTREMES(FMSTATS_EXTREME)
#undef FMSTATS_SUM
#undef FMSTATS_EXTREME
  s.mean = nb == 0 ? a.mean : na == 0 ? b.mean : mean;
  s.m2 = a.m2 + gained_m2(a, b);
  return s;
}

template <class Int>
FMSTATS_FN ChannelStateOf<Int, typename Numbers<Int>::Real> load_state(const i64* words, i64 row,
                                                                       i64 channel) {
  typedef Numbers<Int> N;
  const double* reals = reinterpret_cast<const double*>(words);
  ChannelStateOf<Int, typename N::Real> s;
#define FMSTATS_COUNT(name, Name, ...) s.name = N::load(words + k##Name * row + channel);
#define FMSTATS_REAL(name, Name, ...) s.name = N::load(reals + k##Name * row + channel);
  FMSTATS_COUNTS(FMSTATS_COUNT)
  FMSTATS_REALS(FMSTATS_REAL)
#undef FMSTATS_COUNT
#undef FMSTATS_REAL
  return s;
}

template <class Int, class Real>
FMSTATS_FN void store_state(i64* words, i64 row, i64 channel, const ChannelStateOf<Int, Real>& s) {
  typedef Numbers<Int> N;
  double* reals = reinterpret_cast<double*>(words);
#define FMSTATS_COUNT(name, Name, ...) N::store(words + k##Name * row + channel, s.name);
#define FMSTATS_REAL(name, Name, ...) N::store(reals + k##Name * row + channel, s.name);
  FMSTATS_COUNTS(FMSTATS_COUNT)
  FMSTATS_REALS(FMSTATS_REAL)
#undef FMSTATS_COUNT
#undef FMSTATS_REAL
}

// Whether graphs measure the pass that runs now.
FMSTATS_FN bool gate_open(const i64* clock) {
  return clock[kEnabled] != 0 && clock[kPhase] == 0;
}

// Begin a pass of a graph that is replayed: the next of so many, of which the first is measured.
FMSTATS_FN void begin_replayed_pass(i64* clock) {
  if (clock[kEnabled] == 0) return;
  clock[kNowFirstPass] += 1;
  clock[kReplayed] += 1;
  clock[kPhase] = (clock[kPhase] + 1) % clock[kEvery];
  clock[kReplayedMeasured] += clock[kPhase] == 0 ? 1 : 0;
}

// Note the time in the state of a channel that an element of this tensor, no finite number, came
// to.
FMSTATS_FN void note_non_finite(i64* words, i64 row, i64 channel, i64* clock) {
#define FMSTATS_FIRST(name, Name, ...)               \
  i64* const name = words + k##Name * row + channel; \
  if (clock[kNow##Name] < *name) *name = clock[kNow##Name];
  FMSTATS_FIRSTS(FMSTATS_FIRST)
#undef FMSTATS_FIRST
#if defined(__CUDA_ARCH__)  // other blocks and threads may set it, too
  atomicExch(reinterpret_cast<unsigned long long*>(clock + kAlarm), 1ULL);
#else
  __atomic_store_n(clock + kAlarm, i64{1}, __ATOMIC_RELAXED);
#endif
}

}  // namespace fmstats
