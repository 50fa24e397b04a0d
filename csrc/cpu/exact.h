// One channel, element by element, in float64: the path for blocks that hold NaN, infinities or
// squares beyond the vector type, and for channels whose fast sums were too coarse.
#pragma once

#include "elements.h"
#include "parts.h"
#include "runs.h"

namespace fmstats {
namespace {

template <class E, class Visit>
inline void visit_channel(const MaskedView& view, i64 channel, i64 p0, i64 p1, Visit visit) {
  const auto* first =
      static_cast<const typename E::Storage*>(view.data) + channel * view.channel_stride;
  const i64 step = view.stride[view.dim_count - 1];
  for (Runs runs(view, p0); p0 < p1;) {
    const i64 n = runs.left() < p1 - p0 ? runs.left() : p1 - p0;
    const auto* p = first + runs.offset();
    for (i64 i = 0; i < n; ++i) {
      if (is_counted(view, p0 + i)) visit(E::one(p[i * step]));
    }
    runs.advance(n);
    p0 += n;
  }
}

// NaN and infinity counts and moments, no threshold counts: those the vector loop gets right for
// every value.
template <class E>
void scan_moments_exactly(const MaskedView& view, i64 channel, i64 p0, i64 p1, double pivot,
                          Partial& part) {
  Partial own = empty_partial();  // of few terms, however many blocks there are
  visit_channel<E>(view, channel, p0, p1, [&](double x) { add_moments(x, pivot, own); });
  add(part, own);
}

}  // namespace
}  // namespace fmstats
