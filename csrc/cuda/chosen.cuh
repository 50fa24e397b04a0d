// Which positions a channel of the state is about: all of the tensor, or those of a group.
//
// Chosen<Args> is made of a channel of the state. `channel` is where that is in the tensor, `Part`
// what its positions come to; `has` tells whether a position counts. Where all do, nothing of this
// is left in the machine code.
#pragma once

#include "group.cuh"
#include "requests.cuh"
#include "walk.cuh"

namespace fmstats {

// Where the number of a position is, by any dims. Apart, since it is long.
static __device__ __noinline__ i64 number_offset(const GroupedArgs& a, i64 position) {
  const GroupNumbers& n = a.numbers;
  return offset_in(n.dim_count, n.size, n.stride, n.by, a.narrow, position);
}

template <class Args>
struct Chosen;

template <>
struct Chosen<CudaArgs> {
  typedef AskedPart<Partial> Part;
  static constexpr bool kSome = false;

  const i64 channel;

  __device__ __forceinline__ Chosen(const CudaArgs&, i64 of_state) : channel(of_state) {}
  static __device__ __forceinline__ i64 in_tensor(const CudaArgs&, i64 of_state) {
    return of_state;
  }
  static __device__ __forceinline__ i64 state_channels(const CudaArgs& a) {
    return a.view.channels;
  }
  // The first channel of this block's tile, in the tensor and in the state.
  static __device__ __forceinline__ i64 tile_in_tensor(const CudaArgs& a, int vector) {
    return static_cast<i64>(blockIdx.x) * a.lanes * vector;
  }
  static __device__ __forceinline__ i64 tile_in_state(const CudaArgs&, int width) {
    return static_cast<i64>(blockIdx.x) * width;
  }
  static __device__ __forceinline__ i64 positions_of(const CudaArgs& a, const Partial&) {
    return a.positions;
  }
  // The number of the group that a channel of the state is of, from 0 on.
  static __device__ __forceinline__ i64 group_of(const CudaArgs&, i64) { return 0; }
  __device__ __forceinline__ bool has(i64) const { return true; }
};

template <>
struct Chosen<GroupedArgs> {
  typedef AskedPart<CountedPart> Part;
  static constexpr bool kSome = true;

  const i64 channel;

  __device__ __forceinline__ Chosen(const GroupedArgs& a, i64 of_state)
      : channel(in_tensor(a, of_state)),
        a_(a),
        group_(static_cast<unsigned>(group_of(a, of_state)) + 1) {}
  static __device__ __forceinline__ i64 in_tensor(const GroupedArgs& a, i64 of_state) {
    return of_state % a.view.channels;
  }
  static __device__ __forceinline__ i64 state_channels(const GroupedArgs& a) {
    return a.view.channels * a.numbers.groups;
  }
  static __device__ __forceinline__ i64 tile_in_tensor(const GroupedArgs& a, int vector) {
    const int width = a.lanes * vector;
    return blockIdx.x % tiles(a, width) * width;
  }
  static __device__ __forceinline__ i64 tile_in_state(const GroupedArgs& a, int width) {
    const i64 of_group = tiles(a, width);
    return blockIdx.x / of_group * a.view.channels + blockIdx.x % of_group * width;
  }
  static __device__ __forceinline__ i64 positions_of(const GroupedArgs&, const CountedPart& part) {
    return static_cast<i64>(part.positions);
  }
  static __device__ __forceinline__ i64 group_of(const GroupedArgs& a, i64 of_state) {
    return of_state / a.view.channels;
  }
  __device__ __forceinline__ bool has(i64 position) const { return *number(position) == group_; }

  // Bit i: whether position + i counts, of the kCount positions of a vector.
  template <int kCount>
  __device__ __forceinline__ unsigned bits(i64 position) const {
    if (a_.numbers.of_vector == kLookedUp && kCount > 1) return looked_up(position, kCount);
    const unsigned char* p = number(position);
    if (a_.numbers.of_vector == kOneNumber) return *p == group_ ? (1u << kCount) - 1 : 0;
    Words<kNumberWords<kCount>> words = {};
    if (kCount % 4 == 0 && reinterpret_cast<unsigned long long>(p) % kCount == 0) {
      words = *reinterpret_cast<const Words<kNumberWords<kCount>>*>(p);
    } else {
#pragma unroll
      for (int i = 0; i < kCount; ++i) words.w[i / 4] |= static_cast<unsigned>(p[i]) << i % 4 * 8;
    }
    unsigned bits = 0;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      bits |= static_cast<unsigned>((words.w[i / 4] >> i % 4 * 8 & 0xff) == group_) << i;
    }
    return bits;
  }

 private:
  // Of a group.
  static __device__ __forceinline__ i64 tiles(const GroupedArgs& a, int width) {
    return (a.view.channels + width - 1) / width;
  }

  // Of a vector's numbers, a byte each.
  template <int kCount>
  static constexpr int kNumberWords = (kCount + 3) / 4;

  __device__ __forceinline__ const unsigned char* number(i64 position) const {
    const GroupNumbers& n = a_.numbers;
    if (!n.quick) return n.data + number_offset(a_, position);
    const unsigned at = static_cast<unsigned>(position), run = divide(at, n.by[1]);
    const unsigned place = at - run * static_cast<unsigned>(n.size[1]);
    return n.data + run * n.stride[0] + place * n.stride[1];
  }
  // `bits` of numbers that are looked up one by one.
  __device__ __noinline__ unsigned looked_up(i64 position, int count) const {
    unsigned bits = 0;
#pragma unroll 1
    for (int i = 0; i < count; ++i) bits |= static_cast<unsigned>(has(position + i)) << i;
    return bits;
  }

  const GroupedArgs& a_;
  const unsigned group_;
};

// A walk over a channel that takes what is chosen of it, and nothing else is loaded.
template <class Walk>
class Picking {
 public:
  typedef typename Walk::Held Held;
  typedef unsigned Present;  // elements of a slot, a bit each
  static constexpr int kElements = Walk::kElements;
  static constexpr int kLoads = Walk::kLoads;

  __device__ __forceinline__ Picking(const Walk& walk, const Chosen<GroupedArgs>& chosen, i64 slot,
                                     int step)
      : walk_(walk), chosen_(chosen), slot_(slot), step_(step) {}

  // Of the slot so many steps ahead.
  __device__ __forceinline__ Present present(int ahead = 0) const {
    return chosen_.template bits<kElements>((slot_ + ahead * step_) * kElements);
  }
  __device__ __forceinline__ Held load() const { return walk_.load(); }
  __device__ __forceinline__ void advance() {
    walk_.advance();
    slot_ += step_;
  }
  __device__ __forceinline__ void skip(int slots) {
#pragma unroll
    for (int i = 0; i < slots; ++i) advance();
  }
  template <class Visit>
  __device__ __forceinline__ void each(Visit visit) const {
    unsigned bits = present();
    walk_.each([&](auto x) {
      if (bits & 1) visit(x);
      bits >>= 1;
    });
  }

 private:
  Walk walk_;
  const Chosen<GroupedArgs> chosen_;
  i64 slot_;
  const int step_;
};

// A walk from a slot on, over what counts of a channel of the state.
template <class Walk>
__device__ __forceinline__ Walk walk_over(const CudaArgs& a, i64 channel, i64 slot, int step) {
  return Walk(a, channel, slot, step);
}
template <class Walk>
__device__ __forceinline__ Picking<Walk> walk_over(const GroupedArgs& a, i64 channel, i64 slot,
                                                   int step) {
  const Chosen<GroupedArgs> chosen(a, channel);
  return Picking<Walk>(Walk(a, chosen.channel, slot, step), chosen, slot, step);
}

}  // namespace fmstats
