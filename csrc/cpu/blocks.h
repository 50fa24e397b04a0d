// The positions of a column tile, a block at a time, and the fetching of a block before its turn.
#pragma once

#include "lanes.h"
#include "runs.h"

namespace fmstats {
namespace {

constexpr int kBlockSteps = kGroup;  // positions whose sums go on in float64 together

struct Block {
  i64 p0 = 0;               // the first position
  int size = 0;             // positions, at most kBlockSteps
  i64 offset[kBlockSteps];  // of each position from its channel's first element
};

// Hands out positions [p0, p1); an empty block at the end.
class Blocks {
 public:
  Blocks(const MaskedView& view, i64 p0, i64 p1)
      : runs_(view, p0), step_(view.stride[view.dim_count - 1]), p0_(p0), p1_(p1) {}

  // Not inline: once a block, it would take registers of the loops around it.
  __attribute__((noinline)) void next(Block& block) {
    block.p0 = p0_;
    block.size = static_cast<int>(p1_ - p0_ < kBlockSteps ? p1_ - p0_ : kBlockSteps);
    for (int filled = 0; filled < block.size;) {
      const i64 room = block.size - filled, more = runs_.left() < room ? runs_.left() : room;
      for (i64 i = 0; i < more; ++i) block.offset[filled + i] = runs_.offset() + i * step_;
      runs_.advance(more);
      filled += static_cast<int>(more);
    }
    p0_ += block.size;
  }

 private:
  Runs runs_;
  const i64 step_;
  i64 p0_;
  const i64 p1_;
};

// Asks for the rows of a block line by line, in the order of memory: fetched in the order of use,
// down a strip of the tile, they come a third slower.
template <class Storage>
class Fetch {
 public:
  Fetch(const Storage* first, i64 row, const Block& block)
      : first_(first), row_(row), offset_(block.offset), end_(block.offset + block.size) {}

  // Fetch the next line, if there is one.
  void next_line() {
    if (line_ >= row_end_) {
      if (offset_ == end_) return;
      line_ = reinterpret_cast<const char*>(first_ + *offset_);
      row_end_ = reinterpret_cast<const char*>(first_ + *offset_ + row_);
      ++offset_;
    }
    __builtin_prefetch(line_);
    line_ += kLineBytes;
  }

 private:
  const Storage* const first_;
  const i64 row_;
  const i64 *offset_, *const end_;
  const char *line_ = nullptr, *row_end_ = nullptr;
};

}  // namespace
}  // namespace fmstats
