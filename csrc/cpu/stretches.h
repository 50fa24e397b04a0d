// The chosen elements of a channel as stretches that lie one after the other, whatever the strides:
// long runs as they are, others gathered. For what is measured on request, which costs more than a
// copy.
#pragma once

#include "chosen.h"
#include "elements.h"
#include "runs.h"

namespace fmstats {
namespace {

constexpr i64 kGather = 256;   // elements: some vectors of any width
constexpr i64 kShortRun = 32;  // elements: shorter runs are gathered

// Call take(p, n) with all chosen elements of positions [p0, p1) of a channel.
template <class E, class Take>
inline void visit_stretches(const MaskedView& view, i64 channel, i64 p0, i64 p1, Take take) {
  typedef typename E::Storage Storage;
  const auto* first = static_cast<const Storage*>(view.data) + channel * view.channel_stride;
  const i64 step = view.stride[view.dim_count - 1];
  const bool whole = step == 1 && view.numbers == nullptr;
  Storage gathered[kGather];
  i64 waiting = 0;
  for (Runs runs(view, p0); p0 < p1;) {
    const i64 n = runs.left() < p1 - p0 ? runs.left() : p1 - p0;
    const Storage* p = first + runs.offset();
    runs.advance(n);
    if (whole && n >= kShortRun) {
      take(p, n);
    } else {
      for (i64 i = 0; i < n; ++i) {
        gathered[waiting] = p[i * step];
        waiting += is_counted(view, p0 + i);
        if (waiting == kGather) {
          take(gathered, waiting);
          waiting = 0;
        }
      }
    }
    p0 += n;
  }
  if (waiting > 0) take(gathered, waiting);
}

// Call two(x, y) with the vectors of n elements from p on, one(x) with what is less than two, and
// rest(p) with the elements of what is less than one. The last vector reaches back, with NaN for
// what was taken before.
template <class E, class Two, class One, class Rest>
inline void visit_vectors(const typename E::Storage* p, i64 n, Two two, One one, Rest rest) {
  typedef typename Vec<typename E::Real>::type V;
  constexpr int kWidth = kLanes<typename E::Real>;
  if (n < kWidth) {
    for (i64 i = 0; i < n; ++i) rest(p[i]);
    return;
  }
  const auto* const end = p + n;
  for (; end - p >= 2 * kWidth; p += 2 * kWidth) two(E::vector(p), E::vector(p + kWidth));
  if (end - p >= kWidth) {
    one(E::vector(p));
    p += kWidth;
  }
  if (p < end) {
    const int known = kWidth - static_cast<int>(end - p);
    one(nan_elsewhere(E::vector(end - kWidth), lanes_from(known, V{})));
  }
}

}  // namespace
}  // namespace fmstats
