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

// Where a position lies in memory by these dims, `narrow` and `by` as in CudaArgs.
__device__ __forceinline__ i64 offset_in(int dims, const i64* size, const i64* stride,
                                         const Divisor* by, int narrow, i64 position) {
  i64 offset = 0;
#pragma unroll 1
  for (int d = dims - 1; d > 0; --d) {
    const i64 before = narrow ? divide(static_cast<unsigned>(position), by[d]) : position / size[d];
    offset += (position - before * size[d]) * stride[d];
    position = before;
  }
  return offset + position * stride[0];
}

// Where a position of a channel lies, from the channel's first element. Apart, since it is long.
static __device__ __noinline__ i64 offset_of(const CudaArgs& a, i64 position) {
  const View& view = a.view;
  return offset_in(view.dim_count, view.size, view.stride, a.by, a.narrow, position);
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

// Hand over the elements of a vector one by one.
template <class E, class Visit>
__device__ __forceinline__ void visit_vector(const void* p, Visit visit) {
#pragma unroll 1
  for (int i = 0; i < kVectorOf<E>; ++i) {
    visit(number<E>(static_cast<const typename E::Storage*>(p)[i]));
  }
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
  typedef bool Present;
  static constexpr int kElements = kVectorOf<E>;  // of a slot
  static constexpr int kLoads = 4;                // in flight, a thread

  __device__ Vectors(const CudaArgs& a, i64 channel, i64 slot, int)
      : steps_(a, channel_of<E>(a.view, channel), slot) {}

  __device__ __forceinline__ bool present() const { return true; }
  __device__ __forceinline__ Held load() const { return load_words(steps_.place()); }
  __device__ __forceinline__ void advance() { steps_.advance(); }
  template <class Visit>
  __device__ __forceinline__ void each(Visit visit) const {
    visit_vector<E>(steps_.place(), visit);
  }

 private:
  Steps steps_;
};

// Down the positions of any view.
template <class E>
class Positions {
 public:
  typedef typename E::Storage Storage;
  typedef Storage Held;
  typedef bool Present;
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
