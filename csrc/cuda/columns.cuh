// A tile of neighbouring channels to a block: channels_last, (N, T, C), (N, C). `lanes` threads
// read a position's channels side by side, 16 bytes each, or an element each where that is not
// aligned, and walk down the positions together, chunk by chunk.
#pragma once

#include "fold.cuh"

namespace fmstats {

// What a block has of its tile, in shared memory. Its counts are below 2^31, as its positions are.
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
};

// kOne: a thread has one channel, whose elements it packs; else a vector of channels.
template <class E, int kMode, bool kOne>
class Columns {
  typedef typename E::Real Real;
  typedef typename E::Pack Pack;
  typedef typename E::Storage Storage;
  static constexpr int kVector = kOne ? 1 : kVectorOf<E>;  // channels of a thread
  static constexpr int kLanes = kOne ? 1 : kVector / E::kPack;
  static constexpr int kRows = kOne ? E::kPack : 1;  // positions of a pack
  // Loads in flight, a thread; more where registers leave room for fewer threads.
  static constexpr int kGulp = kOne || sizeof(Storage) == 1 ? 8 : 4;
  static constexpr int kChunk = kChunkElements * kRows;
  // Packs of a lane between two settlings: `settle_field` rounds once more.
  static constexpr int kSettled = 4;
  static_assert(kSettled + 1 <= kRoundings, "a lane must settle in time");

 public:
  static constexpr int kMaxTile = kWarp * kVector;
  typedef TileTotals<Real, kMaxTile, kColumnThreads * kVector> Tile;

  __device__ Columns(const CudaArgs& a, Tile& tile)
      : a_(a),
        tile_(tile),
        limits_(a),
        lane_(static_cast<int>(threadIdx.x) % a.lanes),
        row_(static_cast<int>(threadIdx.x) / a.lanes),
        rows_(kColumnThreads / a.lanes) {}

  // Measure split blockIdx.y of the tile into its totals.
  __device__ __forceinline__ void measure() {
    const i64 begin = static_cast<i64>(blockIdx.y) * a_.per_split;
    const i64 stop = begin + a_.per_split < a_.positions ? begin + a_.per_split : a_.positions;
    const i64 channel =
        static_cast<i64>(blockIdx.x) * a_.lanes * kVector + static_cast<i64>(lane_) * kVector;
    const bool mine = channel < a_.view.channels;
    Real pivot[kVector * kRows];
#pragma unroll
    for (int v = 0; v < kVector * kRows; ++v) {
      pivot[v] = mine ? tile_.pivot[lane_ * kVector + v / kRows] : Real(0);
    }
    // All threads go through as many chunks, since the block settles them together.
    i64 position = begin + row_;
    Steps walk(a_, channel_of<E>(a_.view, mine ? channel : 0), position);
    for (i64 at = begin; at < stop; at += static_cast<i64>(kChunk) * rows_) {
      const i64 left = mine && position < stop ? (stop - position + rows_ - 1) / rows_ : 0;
      const int n = static_cast<int>(left < kChunk ? left : kChunk);
      Lane<E, kMode> lanes[kLanes];
#pragma unroll
      for (int i = 0; i < kLanes; ++i) lanes[i].begin();
      read_chunk(walk, n, pivot, lanes);
      settle(channel, position, n, lanes);
      position += static_cast<i64>(kChunk) * rows_;
    }
  }

 private:
  __device__ __forceinline__ void read_chunk(Steps& walk, int n, const Real* pivot,
                                             Lane<E, kMode>* lanes) const {
#pragma unroll 1
    for (int i = 0; i < n; i += kGulp) {
      Held held[kGulp];
#pragma unroll
      for (int u = 0; u < kGulp; ++u) {
        if constexpr (kOne) held[u] = {};
        if (i + u < n) held[u] = load(walk.place());
        walk.advance();
      }
      if constexpr (kOne) {
#pragma unroll
        for (int u = 0; u < kGulp; u += E::kPack) {
          unsigned marks = i + u < n;
          if (E::kPack == 2) {
            marks = (i + u < n ? 0xffffu : 0) | (i + u + 1 < n ? 0xffff0000u : 0);
          }
          lanes[0].take_some(E::pack(held + u), marks, pivot, limits_);
          if (u / E::kPack % kSettled == kSettled - 1 || u + E::kPack >= kGulp) lanes[0].settle();
        }
      } else {
#pragma unroll
        for (int u = 0; u < kGulp; ++u) {
          if (i + u < n) {
            Pack x[kLanes];
            E::read(held[u], x);
#pragma unroll
            for (int k = 0; k < kLanes; ++k) lanes[k].take(x[k], pivot + k * E::kPack, limits_);
          }
          if (u % kSettled < kSettled - 1) continue;
#pragma unroll
          for (int k = 0; k < kLanes; ++k) lanes[k].settle();
        }
      }
    }
  }

  // Add a chunk to the totals, field by field and row by row, so that the order does not depend on
  // time. That of counts does not show.
  __device__ __forceinline__ void settle(i64 channel, i64 position, int n, Lane<E, kMode>* lanes) {
    bool finite = true;
#pragma unroll
    for (int k = 0; k < kLanes; ++k) finite &= lanes[k].is_finite();
#pragma unroll
    for (int k = 0; k < kLanes; ++k) {
      if (!finite) lanes[k].drop_moments();
#pragma unroll
      for (int c = 0; c < E::kPack; ++c) {
        const int channel = lane_ * kVector + (kOne ? 0 : k * E::kPack + c);
#define FMSTATS_COMPARISON(name, Name, Mode) \
  if (kMode >= k##Mode) count(kPart##Name, channel, E::marked(lanes[k].name, c));
        FMSTATS_COMPARISONS(FMSTATS_COMPARISON)
#undef FMSTATS_COMPARISON
      }
    }
#define FMSTATS_REAL(name, Name, ...) settle_field<Staged##Name<E>>(lanes, tile_.name);
    FMSTATS_PART_REALS(FMSTATS_REAL)
#undef FMSTATS_REAL
    if (__syncthreads_or(!finite)) settle_exactly(channel, position, finite ? 0 : n);
  }

  __device__ __forceinline__ void count(PartField field, int channel, int n) {
    if (n > 0) atomicAdd(&tile_.count[field][channel], n);
  }

  // kOne stages the elements of a pack as two passes, since both are of one channel.
  template <class Field, class Total>
  __device__ __forceinline__ void settle_field(const Lane<E, kMode>* lanes, Total* totals) {
    const int tile = a_.lanes * kVector;
#pragma unroll
    for (int pass = 0; pass < kRows; ++pass) {
#pragma unroll
      for (int v = 0; v < kVector; ++v) {
        tile_.staged[row_ * tile + lane_ * kVector + v] =
            Field::of(lanes[v / (E::kPack / kRows)], kOne ? pass : v % E::kPack);
      }
      __syncthreads();
#pragma unroll 1
      for (int c = threadIdx.x; c < tile; c += kColumnThreads) {
        Total total = totals[c];
#pragma unroll 4
        for (int r = 0; r < rows_; ++r) {
          total = Field::join(total, static_cast<Total>(tile_.staged[r * tile + c]));
        }
        totals[c] = total;
      }
      __syncthreads();
    }
  }

  // Read a chunk that is not finite again, a row of threads after the other.
  __device__ __forceinline__ void settle_exactly(i64 channel, i64 position, int n) {
#pragma unroll 1
    for (int row = 0; row < rows_; ++row) {
#pragma unroll 1
      for (int v = 0; v < (row == row_ && n > 0 ? kVector : 0); ++v) {
        const int c = lane_ * kVector + v;
        Partial part = empty_partial();
#pragma unroll 1
        for (int i = 0; i < n; ++i) {
          const i64 offset = offset_of(a_, position + static_cast<i64>(i) * rows_);
          take_moments<E, kMode>(number<E>(channel_of<E>(a_.view, channel)[offset + v]),
                                 tile_.pivot[c], a_.thresholds, part);
        }
        tile_.add_exact(c, part);
      }
      __syncthreads();
    }
  }

  typedef typename Select<kOne, Storage, Words<4>>::type Held;

  static __device__ __forceinline__ Held load(const char* p) {
    if constexpr (kOne) {
      return *reinterpret_cast<const Storage*>(p);
    } else {
      return load_words(p);
    }
  }

  const CudaArgs& a_;
  Tile& tile_;
  const Limits<E> limits_;
  const int lane_, row_, rows_;
};

}  // namespace fmstats
