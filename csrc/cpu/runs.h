// Walking the positions of a view: a position is a mixed-radix number over dims[], the last dim
// fastest, and a run is the stretch of positions along the last dim. Of a view with stretches, only
// their positions have numbers, and runs are the stretches.
#pragma once

#include "job.h"

namespace fmstats {
namespace {

// Whether position number p counts, of those that the view holds.
FMSTATS_FN bool is_counted(const MaskedView& view, i64 p) {
  return view.numbers == nullptr || view.numbers[p] == view.group;
}

class Runs {
 public:
  Runs(const MaskedView& view, i64 position) : view_(view), last_(view.dim_count - 1), offset_(0) {
    if (view.stretches != nullptr) {
      stretch_ = view.stretches;
      for (i64 n = view.stretch_count; n > 1;) {  // the last that begins at or before it
        const i64 half = n / 2;
        if (stretch_[half].first <= position) stretch_ += half;
        n -= half;
      }
      index_[0] = position;
      offset_ = stretch_->offset + (position - stretch_->first) * view.stride[0];
      return;
    }
    for (int d = last_; d >= 0; --d) {
      index_[d] = position % view.size[d];
      position /= view.size[d];
      offset_ += index_[d] * view.stride[d];
    }
  }

  Runs(const Runs& o) : view_(o.view_), last_(o.last_), offset_(o.offset_), stretch_(o.stretch_) {
    // Not all kMaxDims, and not by a call of memcpy.
    for (int d = last_; d >= 0; --d) index_[d] = o.index_[d];
  }

  // Elements between the channel's first element and the present position.
  i64 offset() const { return offset_; }

  // Positions left in the present run, at least 1.
  FMSTATS_MEMBER i64 left() const {
    if (stretch_ != nullptr) return stretch_[1].first - index_[0];
    return view_.size[last_] - index_[last_];
  }

  // Where a block that should end at `limit` is better to end: with the last stretch that does.
  i64 end_of_block(i64 limit) const {
    if (stretch_ == nullptr) return limit;
    const Stretch* s = stretch_;
    while (s[1].first < limit) ++s;
    return s[1].first == limit || s == stretch_ ? limit : s->first;
  }

  // Move on by n positions, n <= left().
  FMSTATS_MEMBER void advance(i64 n) {
    index_[last_] += n;
    offset_ += n * view_.stride[last_];
    if (stretch_ != nullptr) {
      if (index_[0] == stretch_[1].first) offset_ = (++stretch_)->offset;
      return;
    }
    for (int d = last_; d > 0 && index_[d] == view_.size[d]; --d) {
      offset_ += view_.stride[d - 1] - view_.size[d] * view_.stride[d];
      index_[d] = 0;
      ++index_[d - 1];
    }
  }

 private:
  const MaskedView& view_;
  const int last_;
  i64 offset_;
  const Stretch* stretch_ = nullptr;
  i64 index_[kMaxDims];
};

}  // namespace
}  // namespace fmstats
