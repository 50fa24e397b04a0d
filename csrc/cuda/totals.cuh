// What a block of columns has of its tile of channels.
#pragma once

#include "fold.cuh"

namespace fmstats {

// In shared memory. Counts are below 2^31, as its positions are.
template <class Real, int kTile, int kStaged>
struct TileTotals {
#define FMSTATS_SUM(name, ...) double name[kTile];
#define FMSTATS_EXTREME(name, ...) Real name[kTile];
  FMSTATS_PART_SUMS(FMSTATS_SUM)
  Real pivot[kTile];
  FMSTATS_EXTREMES(FMSTATS_EXTREME)
#undef FMSTATS_SUM
#undef FMSTATS_EXTREME
  Real staged[kStaged];  // a field of a chunk, of every row and channel
  int count[kPartCounts][kTile];

  __device__ __forceinline__ void clear(int c) {
#define FMSTATS_SUM(name, ...) name[c] = 0;
#define FMSTATS_EXTREME(name, Name, join, side) name[c] = static_cast<Real>(side infinity());
    FMSTATS_PART_SUMS(FMSTATS_SUM)
    FMSTATS_EXTREMES(FMSTATS_EXTREME)
#undef FMSTATS_SUM
#undef FMSTATS_EXTREME
    for (int field = 0; field < kPartCounts; ++field) count[field][c] = 0;
  }
  // What an exact reading came to; thresholds are those that hidden NaN take back.
  __device__ __forceinline__ void add_exact(int c, const Partial& p) {
#define FMSTATS_COUNT(name, Name, ...) count[kPart##Name][c] += static_cast<int>(p.name);
#define FMSTATS_SUM(name, ...) name[c] += p.name;
#define FMSTATS_EXTREME(name, Name, join, ...) name[c] = join(name[c], static_cast<Real>(p.name));
    FMSTATS_PART_COUNTS(FMSTATS_COUNT)
    FMSTATS_PART_SUMS(FMSTATS_SUM)
    FMSTATS_EXTREMES(FMSTATS_EXTREME)
#undef FMSTATS_COUNT
#undef FMSTATS_SUM
#undef FMSTATS_EXTREME
  }
  __device__ __forceinline__ Partial part(int c) const {
    Partial p;
#define FMSTATS_COUNT(name, Name, ...) p.name = count[kPart##Name][c];
#define FMSTATS_REAL(name, ...) p.name = static_cast<double>(name[c]);
    FMSTATS_PART_COUNTS(FMSTATS_COUNT)
    FMSTATS_PART_REALS(FMSTATS_REAL)
#undef FMSTATS_COUNT
#undef FMSTATS_REAL
    return p;
  }
  __device__ __forceinline__ void count_positions(int) {}
};

// The same, and of how many positions it is: all channels are of the same.
template <class Totals>
struct CountedTotals : Totals {
  int positions;

  __device__ __forceinline__ void clear(int c) {
    Totals::clear(c);
    if (c == 0) positions = 0;
  }
  __device__ __forceinline__ CountedPart part(int c) const {
    CountedPart p;
    static_cast<Partial&>(p) = Totals::part(c);
    p.positions = positions;
    return p;
  }
  // Called by every thread of the block, so that all see the sum.
  __device__ __forceinline__ void count_positions(int n) {
    if (n > 0) atomicAdd(&positions, n);
    __syncthreads();
  }
};

// The same, with power sums.
template <class Totals, int kTile>
struct SummedTotals : Totals {
  double powers[kPowerSums][kTile];

  __device__ __forceinline__ void clear(int c) {
    Totals::clear(c);
    for (int i = 0; i < kPowerSums; ++i) powers[i][c] = 0;
  }
  __device__ __forceinline__ auto part(int c) const {
    SummedPart<decltype(Totals::part(c))> p = {Totals::part(c), {}};
#pragma unroll
    for (int i = 0; i < kPowerSums; ++i) power_sum(p.powers, i) = powers[i][c];
    return p;
  }
  // Add what all threads have of their channels, `lanes` of them side by side: over the rows of a
  // warp, then warp by warp, so that the order does not depend on time.
  template <int kVector>
  __device__ __forceinline__ void add_powers_of(PowerSums (&mine)[kVector], int lanes) {
#pragma unroll
    for (int v = 0; v < kVector; ++v) {
#pragma unroll
      for (int i = 0; i < kPowerSums; ++i) {
        double& sum = power_sum(mine[v], i);
        for (int step = kWarp / 2; step >= lanes; step /= 2) {
          sum += __shfl_xor_sync(kEveryLane, sum, step);
        }
      }
    }
    const int warp = static_cast<int>(threadIdx.x) / kWarp;
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll 1
    for (int turn = 0; turn < kColumnThreads / kWarp; ++turn) {
#pragma unroll
      for (int v = 0; v < kVector; ++v) {
        if (turn != warp || lane >= lanes) break;
#pragma unroll
        for (int i = 0; i < kPowerSums; ++i) powers[i][lane * kVector + v] += power_sum(mine[v], i);
      }
      __syncthreads();
    }
  }
};

}  // namespace fmstats
