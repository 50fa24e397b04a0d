// How a thread walks over a channel: from slot to slot in equal steps. A walk says whether there is
// something at its place, loads it, goes on, and visits its elements one by one.
#pragma once

#include "args.h"
#include "elements.cuh"

namespace fmstats {

template <bool kFirst, class First, class Second>
struct Select {
  typedef First type;
};
template <class First, class Second>
struct Select<false, First, Second> {
  typedef Second type;
};

__device__ __forceinline__ unsigned divide(unsigned n, const Divisor& by) {
  return __umulhi(n, by.multiplier) >> by.shift;
}

// Where a position of a channel lies, from the channel's first element. Apart, since it is long.
static __device__ __noinline__ i64 offset_of(const CudaArgs& a, i64 position) {
  const View& view = a.view;
  i64 offset = 0;
#pragma unroll 1
  for (int d = view.dim_count - 1; d > 0; --d) {
    const i64 before =
        a.narrow ? divide(static_cast<unsigned>(position), a.by[d]) : position / view.size[d];
    offset += (position - before * view.size[d]) * view.stride[d];
    position = before;
  }
  return offset + position * view.stride[0];
}

// The run and the place in it of a place counted through.
__device__ __forceinline__ i64 run_of(const CudaArgs& a, i64 place) {
  if (a.run_places == 1) return place;
  return a.narrow ? divide(static_cast<unsigned>(place), a.by_run_places) : place / a.run_places;
}

template <class E>
__device__ __forceinline__ const typename E::Storage* channel_of(const View& view, i64 channel) {
  return static_cast<const typename E::Storage*>(view.data) + channel * view.channel_stride;
}

// 16 bytes that this launch reads once: the second-level cache may keep them for the next layer,
// the first need not.
__device__ __forceinline__ Words<4> load_words(const char* p) {
  Words<4> v;
  asm("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
      : "=r"(v.w[0]), "=r"(v.w[1]), "=r"(v.w[2]), "=r"(v.w[3])
      : "l"(p));
  return v;
}

// The plainest walk: from place to place, where a view has one or two dims.
class Steps {
 public:
  __device__ __forceinline__ Steps(const CudaArgs& a, const void* first, i64 place) : a_(a) {
    const i64 run = run_of(a, place);
    at_ = static_cast<int>(place - run * a.run_places);
    p_ = static_cast<const char*>(first) + run * a.run_stride_bytes + at_ * a.place_bytes;
  }
  __device__ __forceinline__ const char* place() const { return p_; }
  __device__ __forceinline__ void advance() {
    at_ += a_.step_places;
    p_ += a_.step_bytes;
    if (at_ >= a_.run_places) {
      at_ -= a_.run_places;
      p_ += a_.wrap_bytes;
    }
  }

 private:
  const CudaArgs& a_;
  const char* p_;
  int at_;
};

// Vectors of contiguous runs that consist of nothing else.
template <class E>
class Vectors {
 public:
  typedef typename E::Storage Storage;
  typedef Words<4> Held;
  static constexpr int kElements = kVectorOf<E>;  // of a slot
  static constexpr int kLoads = 4;                // in flight, a thread

  __device__ Vectors(const CudaArgs& a, i64 channel, i64 slot)
      : steps_(a, channel_of<E>(a.view, channel), slot) {}

  __device__ __forceinline__ bool present() const { return true; }
  __device__ __forceinline__ Held load() const { return load_words(steps_.place()); }
  __device__ __forceinline__ void advance() { steps_.advance(); }
  template <class Visit>
  __device__ __forceinline__ void each(Visit visit) const {
    const Storage* p = reinterpret_cast<const Storage*>(steps_.place());
#pragma unroll 1
    for (int i = 0; i < kElements; ++i) visit(number<E>(p[i]));
  }

 private:
  Steps steps_;
};

// The whole vectors of other runs: at addresses that 16 divides, wherever the run begins. The last
// of a.run_places may lie beyond its end.
template <class E>
class RaggedVectors {
 public:
  typedef typename E::Storage Storage;
  typedef Words<4> Held;
  static constexpr int kElements = kVectorOf<E>;
  static constexpr int kLoads = 4;

  __device__ RaggedVectors(const CudaArgs& a, i64 channel, i64 slot) : a_(a) {
    const i64 run = run_of(a, slot);
    run_ = reinterpret_cast<unsigned long long>(channel_of<E>(a.view, channel)) +
           run * a.run_stride_bytes;
    at_ = static_cast<int>(slot - run * a.run_places) * kSlotBytes;
  }

  __device__ __forceinline__ bool present() const {
    return static_cast<unsigned>(place()) - static_cast<unsigned>(run_) <=
           static_cast<unsigned>(a_.run_bytes - kSlotBytes);
  }
  __device__ __forceinline__ Held load() const {
    return load_words(reinterpret_cast<const char*>(place()));
  }
  __device__ __forceinline__ void advance() {
    at_ += a_.step_places * kSlotBytes;
    run_ += a_.step_bytes;
    if (at_ >= a_.run_places * kSlotBytes) {
      at_ -= a_.run_places * kSlotBytes;
      run_ += a_.wrap_bytes;
    }
  }
  template <class Visit>
  __device__ __forceinline__ void each(Visit visit) const {
    const Storage* p = reinterpret_cast<const Storage*>(place());
#pragma unroll 1
    for (int i = 0; i < kElements; ++i) visit(number<E>(p[i]));
  }

 private:
  // Addresses as numbers. Of the slot: the first boundary in the run, and so many bytes on.
  __device__ __forceinline__ unsigned long long place() const {
    return (run_ + at_ + (kSlotBytes - 1)) & ~static_cast<unsigned long long>(kSlotBytes - 1);
  }

  const CudaArgs& a_;
  unsigned long long run_;
  int at_;  // the slot's bytes after those of the run's first
};

// What the vectors of ragged runs leave over: up to a vector less one element at either end. A run
// has a slot for each of these; a step over all threads comes to the same slot of a later run.
template <class E>
class RaggedEdges {
 public:
  typedef typename E::Storage Storage;
  typedef Storage Held;
  static constexpr int kElements = 1;
  static constexpr int kLoads = 8;
  static constexpr int kRunSlots = 2 * kVectorOf<E>;

  // threads: a multiple of kRunSlots.
  __device__ RaggedEdges(const CudaArgs& a, i64 channel, i64 first_run, int rank, int threads)
      : stride_(a.view.dim_count > 1 ? a.view.stride[0] : 0),
        run_(a.view.size[a.view.dim_count - 1]),
        step_(threads / kRunSlots * stride_),
        slot_(rank % kRunSlots),
        first_(channel_of<E>(a.view, channel) + (first_run + rank / kRunSlots) * stride_) {}

  // Slots of this thread until `runs` runs after the first are done.
  static __device__ i64 count(i64 runs, int rank, int threads) {
    const i64 left = runs - rank / kRunSlots;
    const int step = threads / kRunSlots;
    return left > 0 ? (left + step - 1) / step : 0;
  }

  __device__ __forceinline__ bool present() const { return index() >= 0; }
  __device__ __forceinline__ Held load() const { return first_[index()]; }
  __device__ __forceinline__ void advance() { first_ += step_; }
  template <class Visit>
  __device__ __forceinline__ void each(Visit visit) const {
    visit(number<E>(load()));
  }

 private:
  // Of the slot's element in the run, or -1.
  __device__ __forceinline__ int index() const {
    constexpr int kSize = kVectorOf<E>;
    const unsigned to_vector =
        static_cast<unsigned>(-reinterpret_cast<unsigned long long>(first_) & (kSlotBytes - 1));
    const int run = static_cast<int>(run_), before = static_cast<int>(to_vector / sizeof(Storage));
    const int head = before < run ? before : run;
    if (slot_ < kSize) return slot_ < head ? slot_ : -1;
    const int at = head + (run - head) / kSize * kSize + slot_ - kSize;
    return at < run ? at : -1;
  }

  const i64 stride_, run_, step_;
  const int slot_;
  const Storage* first_;  // of the run
};

// Down the positions of any view.
template <class E>
class Positions {
 public:
  typedef typename E::Storage Storage;
  typedef Storage Held;
  static constexpr int kElements = 1;
  static constexpr int kLoads = 8;

  __device__ Positions(const CudaArgs& a, i64 channel, i64 position, int step)
      : a_(a),
        first_(channel_of<E>(a.view, channel)),
        steps_(a, first_, position),
        position_(position),
        step_(step) {}

  __device__ __forceinline__ bool present() const { return true; }
  __device__ __forceinline__ Held load() const {
    if (a_.in_runs) return *reinterpret_cast<const Storage*>(steps_.place());
    return first_[offset_of(a_, position_)];
  }
  __device__ __forceinline__ void advance() {
    steps_.advance();
    position_ += step_;
  }
  template <class Visit>
  __device__ __forceinline__ void each(Visit visit) const {
    visit(number<E>(load()));
  }

 private:
  const CudaArgs& a_;
  const Storage* const first_;
  Steps steps_;
  i64 position_;
  const int step_;
};

}  // namespace fmstats
