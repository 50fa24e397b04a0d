// A tile of neighbouring channels to a block: channels_last, (N, T, C), (N, C). `lanes` threads read
// a position's channels side by side, 16 bytes each, and walk down the positions; 8 bytes of 8-bit
// types, whose 16 channels would not fit into registers; one element where that is not aligned.
#pragma once

#include "fold.cuh"

namespace fmstats {

// Where the positions of a view lie, in steps of a fixed number.
class Down {
 public:
  __device__ Down(const View& view, i64 position, i64 step)
      : view_(view), position_(position), step_(step) {}
  __device__ __forceinline__ i64 offset() const {
    return view_.dim_count == 1 ? position_ * view_.stride[0] : offset_of(view_, position_);
  }
  __device__ __forceinline__ void advance() { position_ += step_; }

 private:
  const View& view_;
  i64 position_;
  const i64 step_;
};

// What a thread has of one of its channels; its NaN and infinities are counted for the block.
template <class Real>
struct Total {
  double sum, sum_sq;
  Real min, max;
  int zeros, low, high;
};

enum NonFinite { kNonFiniteNan, kNonFinitePosInf, kNonFiniteNegInf, kNonFiniteKinds };

// Grid: (tiles, splits). kVector: channels a thread.
template <class E, int kMode, int kVector>
class Columns {
  typedef typename E::Real Real;
  typedef typename E::Storage Storage;

 public:
  static constexpr int kMaxTile = kWarp * kVector;
  typedef Total<Real> TotalOf;

  __device__ explicit Columns(const CudaArgs& a)
      : a_(a),
        lane_(static_cast<int>(threadIdx.x) % a.lanes),
        row_(static_cast<int>(threadIdx.x) / a.lanes),
        rows_(kColumnThreads / a.lanes),
        tile_(a.lanes * kVector),
        first_channel_(static_cast<i64>(blockIdx.x) * tile_) {}

  __device__ int rows() const { return rows_; }
  __device__ int tile() const { return tile_; }
  __device__ i64 first_channel() const { return first_channel_; }

  // Measure this thread's positions of its channels into totals[kVector].
  __device__ void measure(const double* pivots, TotalOf* totals, int* non_finite) const {
    const Real inf = static_cast<Real>(infinity());
    for (int v = 0; v < kVector; ++v) totals[v] = {0.0, 0.0, inf, -inf, 0, 0, 0};
    const i64 begin = static_cast<i64>(blockIdx.y) * a_.per_split + row_;
    const i64 stop = (static_cast<i64>(blockIdx.y) + 1) * a_.per_split;
    const i64 end = stop < a_.positions ? stop : a_.positions;
    const i64 channel = first_channel_ + lane_ * kVector;
    if (channel >= a_.view.channels) return;
    const Limits<Real> limits(a_.thresholds);
    Real pivot[kVector];
#pragma unroll
    for (int v = 0; v < kVector; ++v) pivot[v] = static_cast<Real>(pivots[lane_ * kVector + v]);
    const Storage* first = channel_of<E>(a_.view, channel);
    Down down(a_.view, begin, rows_);
    for (i64 left = begin < end ? (end - begin + rows_ - 1) / rows_ : 0; left > 0;) {
      const Down start = down;
      const int n = static_cast<int>(left < kChunkElements ? left : kChunkElements);
      Lane<E, kMode> lanes[kVector];
#pragma unroll
      for (int v = 0; v < kVector; ++v) lanes[v].begin();
      const auto take = [&](const Held& held) {
        Real x[kVector];
        read(held, x);
#pragma unroll
        for (int v = 0; v < kVector; ++v) lanes[v].take(x[v], pivot[v], limits);
      };
      int i = 0;
#pragma unroll 1
      for (; i + kLoads <= n; i += kLoads) {
        Held held[kLoads];
#pragma unroll
        for (int u = 0; u < kLoads; ++u) {
          held[u] = load(first + down.offset());
          down.advance();
        }
#pragma unroll
        for (int u = 0; u < kLoads; ++u) take(held[u]);
      }
#pragma unroll 1
      for (; i < n; ++i) {
        take(load(first + down.offset()));
        down.advance();
      }
      bool finite = true;
#pragma unroll
      for (int v = 0; v < kVector; ++v) {
        finite &= lanes[v].is_finite();
        totals[v].zeros += lanes[v].zeros;
        if (kMode == kAll) totals[v].low += lanes[v].low;
        if (kMode != kPlain) totals[v].high += lanes[v].high;
      }
      if (finite) {
#pragma unroll
        for (int v = 0; v < kVector; ++v) {
          totals[v].sum += static_cast<double>(lanes[v].sum);
          totals[v].sum_sq += static_cast<double>(lanes[v].sum_sq);
          totals[v].min = min_of(totals[v].min, lanes[v].min);
          totals[v].max = max_of(totals[v].max, lanes[v].max);
        }
      } else {
#pragma unroll 1
        for (int v = 0; v < kVector; ++v) {
          reread(first + v, start, n, pivots[lane_ * kVector + v], totals[v],
                 non_finite + lane_ * kVector + v);
        }
      }
      left -= n;
    }
  }

  // What a thread has of a channel, as a part.
  static __device__ Partial part_of(const TotalOf& t) {
    return {0,     0,        0,
            t.zeros, t.low,  t.high,
            t.sum, t.sum_sq, static_cast<double>(t.min), static_cast<double>(t.max)};
  }

 private:
  struct One {
    Storage x;
  };
  template <int kBytes, int kUnused = 0>
  struct HeldOf {
    typedef Words<kBytes / 4> type;
  };
  template <int kUnused>
  struct HeldOf<sizeof(Storage), kUnused> {
    typedef One type;
  };
  typedef typename HeldOf<kVector * sizeof(Storage)>::type Held;

  static __device__ __forceinline__ Held load(const Storage* p) {
    return *reinterpret_cast<const Held*>(p);
  }
  template <int kCount>
  static __device__ __forceinline__ void read(const Words<kCount>& v, Real* x) {
    E::read(v, x);
  }
  static __device__ __forceinline__ void read(const One& v, Real* x) { x[0] = E::one(v.x); }

  __device__ void reread(const Storage* first, Down down, int n, double pivot, TotalOf& total,
                         int* non_finite) const {
    const Limits<Real> limits(a_.thresholds);
    Partial part = part_of(total);
#pragma unroll 1
    for (int k = 0; k < n; ++k) {
      take_exactly<E>(E::one(first[down.offset()]), pivot, limits, part);
      down.advance();
    }
    total = {part.sum,
             part.sum_sq,
             static_cast<Real>(part.min),
             static_cast<Real>(part.max),
             static_cast<int>(part.zeros),
             static_cast<int>(part.sat_low),
             static_cast<int>(part.sat_high)};
    // Integers: the order of threads does not show.
    if (part.nan) atomicAdd(non_finite + kNonFiniteNan * kMaxTile, static_cast<int>(part.nan));
    if (part.pos_inf) {
      atomicAdd(non_finite + kNonFinitePosInf * kMaxTile, static_cast<int>(part.pos_inf));
    }
    if (part.neg_inf) {
      atomicAdd(non_finite + kNonFiniteNegInf * kMaxTile, static_cast<int>(part.neg_inf));
    }
  }

  const CudaArgs& a_;
  const int lane_, row_, rows_, tile_;
  const i64 first_channel_;
};

// The pivot of a channel, found by one thread.
template <class E>
__device__ double thread_pivot(const CudaArgs& a, i64 channel) {
  ChannelState s = load_state<i64>(a.state, a.row, channel);
  if (finite_count(s) == 0) {
    Partial sample = empty_partial();
    int seen = 0;
#pragma unroll 1
    for (int i = 0; i < sample_count(a); ++i) {
      Partial one = empty_partial();
      take_sample<E>(a, channel, i, one);
      seen += was_seen(one);
      add(sample, one);
    }
    s = state_of_samples(sample, seen);
  }
  return pivot_from<E>(s);
}

template <class E, int kMode, int kVector>
__device__ void measure_columns(const CudaArgs& a) {
  typedef Columns<E, kMode, kVector> Block;
  typedef typename Block::TotalOf TotalOf;
  // A total for each thread and each of its channels; then a word for each field and channel.
  __shared__ __align__(8) unsigned char memory[kColumnThreads * kVector * sizeof(TotalOf)];
  __shared__ double pivots[Block::kMaxTile];
  __shared__ int non_finite[kNonFiniteKinds * Block::kMaxTile];
  static_assert(sizeof(memory) >= sizeof(i64) * kPartFields * Block::kMaxTile, "words do not fit");
  const Block block(a);
  const i64 c0 = block.first_channel();
  const i64 room = a.view.channels - c0;
  const int tile = static_cast<int>(room < block.tile() ? room : block.tile());
  for (int c = threadIdx.x; c < tile; c += kColumnThreads) {
    pivots[c] = thread_pivot<E>(a, c0 + c);
    for (int kind = 0; kind < kNonFiniteKinds; ++kind) non_finite[kind * Block::kMaxTile + c] = 0;
  }
  __syncthreads();
  TotalOf* const totals = reinterpret_cast<TotalOf*>(memory);
  block.measure(pivots, totals + threadIdx.x * kVector, non_finite);
  __syncthreads();
  const i64 step = kPartFields * a.part_row;
  for (int c = threadIdx.x; c < tile; c += kColumnThreads) {
    Partial part = Block::part_of(totals[c]);  // thread c / kVector is of row 0
    for (int r = 1; r < block.rows(); ++r) add(part, Block::part_of(totals[r * block.tile() + c]));
    part.nan = non_finite[kNonFiniteNan * Block::kMaxTile + c];
    part.pos_inf = non_finite[kNonFinitePosInf * Block::kMaxTile + c];
    part.neg_inf = non_finite[kNonFiniteNegInf * Block::kMaxTile + c];
    store_part(a.parts + blockIdx.y * step + c0 + c, a.part_row, part);
  }
  if (!is_last(a.tickets + blockIdx.x, a.splits)) return;
  // Neighbouring threads read neighbouring channels, a word each.
  i64* const words = reinterpret_cast<i64*>(memory);
  for (int i = threadIdx.x; i < kPartFields * tile; i += kColumnThreads) {
    const int field = i / tile, c = i - field * tile;
    i64 word = identity_word(field);
    for (unsigned s = 0; s < a.splits; ++s) {
      word = add_words(field, word, __ldcg(a.parts + s * step + field * a.part_row + c0 + c));
    }
    words[i] = word;
  }
  __syncthreads();
  int* const coarse = non_finite;
  for (int c = threadIdx.x; c < tile; c += kColumnThreads) {
    const Partial part = partial_of(words + c, tile);
    const ChannelState before = load_state<i64>(a.state, a.row, c0 + c);
    double mean;
    coarse[c] = is_coarse<E>(a, before, part, pivots[c], mean);
    if (coarse[c]) {
      pivots[c] = mean;
    } else {
      fold_channel(a, c0 + c, before, part, pivots[c]);
    }
  }
  __syncthreads();
  const Group<kColumnThreads> group;
  for (int c = 0; c < tile; ++c) {
    if (coarse[c]) fold_exactly<E>(a, group, c0 + c, pivots[c], words);
  }
}

}  // namespace fmstats
