// The chosen elements of a channel as stretches that lie one after the other, whatever the strides:
// long runs as they are, others gathered. For what is measured on request, which costs more than a
// copy.
#pragma once

#include "blocks.h"
#include "chosen.h"
#include "elements.h"

namespace fmstats {
namespace {

constexpr i64 kGather = 1024;   // elements: many vectors of any width
constexpr i64 kShortRun = 512;  // elements: shorter runs are gathered, since each run ends in a
                                // part of a vector

// Call take(p, n) with all chosen elements of positions [p0, p1) of a channel.
template <class E, class Take>
inline void visit_stretches(const MaskedView& view, i64 channel, i64 p0, i64 p1, Take take) {
  typedef typename E::Storage Storage;
  const auto* first = static_cast<const Storage*>(view.data) + channel * view.channel_stride;
  const i64 step = view.stride[view.dim_count - 1];
  Storage gathered[kGather];
  i64 waiting = 0;
  for (Runs runs(view, p0); p0 < p1;) {
    i64 n = runs.left() < p1 - p0 ? runs.left() : p1 - p0;
    const Storage* p = first + runs.offset();
    runs.advance(n);
    if (step == 1 && view.numbers == nullptr && n >= kShortRun) {
      take(p, n);
      p0 += n;
      continue;
    }
    while (n > 0) {
      const i64 room = kGather - waiting, more = n < room ? n : room;
      if (view.numbers != nullptr) {
        for (i64 i = 0; i < more; ++i) {
          gathered[waiting] = p[i * step];
          waiting += is_counted(view, p0 + i);
        }
      } else if (step == 1) {
        __builtin_memcpy(gathered + waiting, p, sizeof *p * static_cast<unsigned long>(more));
        waiting += more;
      } else {
        for (i64 i = 0; i < more; ++i) gathered[waiting + i] = p[i * step];
        waiting += more;
      }
      if (waiting == kGather) {
        take(gathered, waiting);
        waiting = 0;
      }
      n -= more;
      p0 += more;
      p += more * step;
    }
  }
  if (waiting > 0) take(gathered, waiting);
}

// Call take(channel, p, n) with the elements of positions [p0, p1) of each of [c, c + count), a
// vector of channels at most, which lie one after the other. Rows are copied before they are
// turned: a channel's own elements may all fall into a few sets of the cache.
template <class E, class Take>
inline void visit_columns(const MaskedView& view, i64 c, i64 count, i64 p0, i64 p1, Take take) {
  typedef typename E::Storage Storage;
  constexpr i64 kWidth = kLanes<typename E::Real>;
  const auto* first = static_cast<const Storage*>(view.data) + c;
  // Rows of 4 KB would all lie in one set of the first-level cache.
  constexpr i64 kPad = kLineBytes / static_cast<i64>(sizeof(Storage));
  Storage turned[kWidth][kGather + kPad], rows[kBlockSteps][kWidth];
  i64 waiting = 0;
  const auto hand_over = [&] {
    for (i64 lane = 0; lane < count; ++lane) take(c + lane, turned[lane], waiting);
    waiting = 0;
  };
  Blocks blocks(view, p0, p1);
  Block block;
  for (blocks.next(block); block.size > 0; blocks.next(block)) {
    if (waiting + block.size > kGather) hand_over();
    for (int r = 0; r < block.size; ++r) {
      __builtin_memcpy(rows[r], first + block.offset[r],
                       sizeof(Storage) * static_cast<unsigned long>(count));
    }
    for (i64 lane = 0; lane < count; ++lane) {
      for (int r = 0; r < block.size; ++r) turned[lane][waiting + r] = rows[r][lane];
    }
    waiting += block.size;
  }
  if (waiting > 0) hand_over();
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
