// A tile of neighbouring channels to a block: channels_last, (N, T, C), (N, C). `lanes` threads
// read a position's channels side by side, 16 bytes each, or an element each where that is not
// aligned, and walk down the positions together, chunk by chunk.
#pragma once

#include "totals.cuh"

namespace fmstats {

// kOne: a thread has one channel, whose elements it packs; else a vector of channels.
template <class E, int kMode, bool kOne, class Args>
class Columns {
 public:
  static constexpr int kVector = kOne ? 1 : kVectorOf<E>;  // channels of a thread

 private:
  typedef typename E::Real Real;
  typedef typename E::Pack Pack;
  typedef typename E::Storage Storage;
  static constexpr int kLanes = kOne ? 1 : kVector / E::kPack;
  static constexpr int kRows = kOne ? E::kPack : 1;  // positions of a pack
  // Loads in flight, a thread; more where registers leave room for fewer threads.
  static constexpr int kGulp = kOne || sizeof(Storage) == 1 ? 8 : 4;
  static constexpr int kChunk = kChunkElements * kRows;
  // Packs of a lane between two settlings: `settle_field` rounds once more.
  static constexpr int kSettled = 4;
  static_assert(kSettled + 1 <= kRoundings, "a lane must settle in time");

 public:
  static constexpr int kMaxTile = most_lanes(kVector, sizeof(Real), kAsked) * kVector;
  static constexpr int kTileBytes = tile_bytes(kMaxTile, kVector, sizeof(Real), kAsked.sums);
  typedef TileTotals<Real, kMaxTile, kColumnThreads * kVector> Totals;
  typedef typename Select<Chosen<Args>::kSome, CountedTotals<Totals>, Totals>::type Plain;
  typedef typename Select<kAsked.sums, SummedTotals<Plain, kMaxTile>, Plain>::type Tile;

  // first: channel of the state in the tile.
  __device__ Columns(const Args& a, i64 first, Tile& tile)
      : a_(a),
        chosen_(a, first),
        tile_(tile),
        limits_(a),
        lane_(static_cast<int>(threadIdx.x) % a.lanes),
        row_(static_cast<int>(threadIdx.x) / a.lanes),
        rows_(kColumnThreads / a.lanes) {}

  // Measure split blockIdx.y of the tile into its totals, and count in histograms of the block, the
  // first of which is added to `into` of the state.
  template <class Bins>
  __device__ __forceinline__ void measure(Bins& bins, i64* into) {
    const i64 begin = static_cast<i64>(blockIdx.y) * a_.per_split;
    const i64 stop = begin + a_.per_split < a_.positions ? begin + a_.per_split : a_.positions;
    const i64 channel =
        Chosen<Args>::tile_in_tensor(a_, kVector) + static_cast<i64>(lane_) * kVector;
    const bool mine = channel < a_.view.channels;
    Real pivot[kVector * kRows];
#pragma unroll
    for (int v = 0; v < kVector * kRows; ++v) {
      pivot[v] = mine ? tile_.pivot[lane_ * kVector + v / kRows] : Real(0);
    }
    Takers<E, decltype(bins.counter(0, into)), kVector> takers = {};
#pragma unroll
    for (int v = 0; v < kVector; ++v) {
      const int of_channel = kAsked.scope == kOfChannel ? lane_ * kVector + v : 0;
      takers.counter[v] = bins.counter(of_channel, into + of_channel * kBinWords);
    }
    // All threads go through as many chunks, since the block settles them together.
    i64 position = begin + row_;
    int counted = 0;
    Steps walk(a_, channel_of<E>(a_.view, mine ? channel : 0), position);
    for (i64 at = begin; at < stop; at += static_cast<i64>(kChunk) * rows_) {
      const i64 left = mine && position < stop ? (stop - position + rows_ - 1) / rows_ : 0;
      const int n = static_cast<int>(left < kChunk ? left : kChunk);
      Lane<E, kMode> lanes[kLanes];
#pragma unroll
      for (int i = 0; i < kLanes; ++i) lanes[i].begin();
      counted += read_chunk(walk, position, n, pivot, takers, lanes);
      settle(channel, position, n, lanes);
      position += static_cast<i64>(kChunk) * rows_;
    }
    tile_.count_positions(lane_ == 0 ? counted : 0);
    if constexpr (kAsked.sums) tile_.add_powers_of(takers.powers, a_.lanes);
  }

 private:
  // Whether there is position i + u, of n; where some are chosen, `chosen` tells.
  static __device__ __forceinline__ bool is_there(const bool* chosen, int i, int u, int n) {
    if constexpr (Chosen<Args>::kSome) return chosen[u];
    return i + u < n;
  }

  // Read n positions from one on; return how many count.
  template <class Takers>
  __device__ __forceinline__ int read_chunk(Steps& walk, i64 position, int n, const Real* pivot,
                                            Takers& takers, Lane<E, kMode>* lanes) const {
    int counted = 0;
#pragma unroll 1
    for (int i = 0; i < n; i += kGulp) {
      Held held[kGulp];
      bool chosen[kGulp];
      if constexpr (Chosen<Args>::kSome) {
        const int before = counted;
#pragma unroll
        for (int u = 0; u < kGulp; ++u) {
          chosen[u] = i + u < n && chosen_.has(position + static_cast<i64>(i + u) * rows_);
          counted += chosen[u];
        }
        if (counted == before) {
#pragma unroll
          for (int u = 0; u < kGulp; ++u) walk.advance();
          continue;
        }
      }
#pragma unroll
      for (int u = 0; u < kGulp; ++u) {
        if constexpr (kOne) held[u] = {};
        if (is_there(chosen, i, u, n)) held[u] = load(walk.place());
        walk.advance();
      }
      if constexpr (kOne) {
#pragma unroll
        for (int u = 0; u < kGulp; u += E::kPack) {
          unsigned marks = is_there(chosen, i, u, n);
          if (E::kPack == 2) {
            marks = (is_there(chosen, i, u, n) ? 0xffffu : 0) |
                    (is_there(chosen, i, u + 1, n) ? 0xffff0000u : 0);
          }
          lanes[0].take_some(E::pack(held + u), marks, pivot, limits_);
          if (u / E::kPack % kSettled == kSettled - 1 || u + E::kPack >= kGulp) lanes[0].settle();
        }
#pragma unroll
        for (int u = 0; u < (kAsks ? kGulp : 0); ++u) {
          if (is_there(chosen, i, u, n)) takers.take(number<E>(held[u]), 0, pivot[0]);
        }
      } else {
#pragma unroll
        for (int u = 0; u < kGulp; ++u) {
          if (is_there(chosen, i, u, n)) {
            Pack x[kLanes];
            E::read(held[u], x);
#pragma unroll
            for (int k = 0; k < kLanes; ++k) lanes[k].take(x[k], pivot + k * E::kPack, limits_);
#pragma unroll
            for (int v = 0; v < (kAsks ? kVector : 0); ++v) {
              takers.take(E::real(x[v / E::kPack], v % E::kPack), v, pivot[v]);
            }
          }
          if (u % kSettled < kSettled - 1) continue;
#pragma unroll
          for (int k = 0; k < kLanes; ++k) lanes[k].settle();
        }
      }
    }
    return counted;
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
          const i64 at = position + static_cast<i64>(i) * rows_;
          if constexpr (Chosen<Args>::kSome) {
            if (!chosen_.has(at)) continue;
          }
          const i64 offset = offset_of(a_, at);
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

  const Args& a_;
  const Chosen<Args> chosen_;
  Tile& tile_;
  const Limits<E> limits_;
  const int lane_, row_, rows_;
};

}  // namespace fmstats
