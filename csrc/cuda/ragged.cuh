// The walks over contiguous runs that begin or end within a vector, planes of 7x7 for one: whole
// vectors first, at addresses that 16 divides, then what they leave over.
#pragma once

#include "walk.cuh"

namespace fmstats {

// The whole vectors, wherever the run begins. The last of a.run_places may lie beyond its end.
template <class E>
class RaggedVectors {
 public:
  typedef typename E::Storage Storage;
  typedef Words<4> Held;
  typedef bool Present;
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
    visit_vector<E>(reinterpret_cast<const void*>(place()), visit);
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
  typedef bool Present;
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

}  // namespace fmstats
