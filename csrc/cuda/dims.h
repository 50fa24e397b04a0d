// What the planner makes of dims: divisors, dims that are joined, how the numbers of groups are
// read.
#pragma once

#include <algorithm>

#include "args.h"

namespace fmstats {

constexpr i64 kFar = i64{1} << 31;

inline i64 element_bytes(DType dtype) {
  constexpr i64 bytes[kDTypes] = {4, 8, 2, 2, 1, 1};
  return bytes[dtype];
}

inline Divisor divisor_of(i64 d) {
  if (d < 2 || d >= kFar) return {};
  int log = 0;
  while ((i64{1} << log) < d) ++log;
  const unsigned long long power = 1ull << (31 + log);
  return {static_cast<unsigned>((power + static_cast<unsigned long long>(d) - 1) /
                                static_cast<unsigned long long>(d)),
          log - 1};
}

// Join neighbouring dims that one stride walks through.
struct Joined {
  int dim_count = 0;
  i64 size[kMaxDims], stride[kMaxDims];

  Joined(const View& view, const i64* strides) {
    for (int d = 0; d < view.dim_count; ++d) {
      const int last = dim_count - 1;
      if (last >= 0 && stride[last] == view.size[d] * strides[d]) {
        size[last] *= view.size[d];
        stride[last] = strides[d];
      } else {
        size[dim_count] = view.size[d];
        stride[dim_count] = strides[d];
        ++dim_count;
      }
    }
  }
};

// The view as it is where no groups cut its dims.
inline View without_groups(const View& view) {
  const Joined joined(view, view.stride);
  View whole = view;
  whole.dim_count = joined.dim_count;
  std::copy_n(joined.size, joined.dim_count, whole.size);
  std::copy_n(joined.stride, joined.dim_count, whole.stride);
  return whole;
}

inline GroupNumbers numbers_of(const View& view, const Groups& groups) {
  const Joined joined(view, groups.stride);
  GroupNumbers numbers = {};
  numbers.data = groups.numbers;
  // One dim becomes the second of two.
  const int first = joined.dim_count == 1 ? 1 : 0;
  numbers.size[0] = 1;
  numbers.dim_count = first + joined.dim_count;
  std::copy_n(joined.size, joined.dim_count, numbers.size + first);
  std::copy_n(joined.stride, joined.dim_count, numbers.stride + first);
  for (int d = 1; d < numbers.dim_count; ++d) numbers.by[d] = divisor_of(numbers.size[d]);
  numbers.quick = numbers.dim_count == 2 && position_count(view) < kFar;
  numbers.groups = groups.count;
  // Vectors follow one another from position 0 on, and so do dims of whole vectors.
  const i64 vector = kSlotBytes / element_bytes(view.dtype);
  const int last = joined.dim_count - 1;
  const bool within = joined.size[last] % vector == 0;
  numbers.of_vector = within && joined.stride[last] == 0   ? kOneNumber
                      : within && joined.stride[last] == 1 ? kNeighbours
                                                           : kLookedUp;
  return numbers;
}

}  // namespace fmstats
