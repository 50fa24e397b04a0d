#include "selection.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <limits>

namespace fmstats {
namespace {

constexpr std::size_t kKeptBytes = 1 << 19;

// Call visit(a, b) for each row along the last dim: where it begins by one and by other strides.
template <class Visit>
void visit_rows(int dims, const i64* size, const i64* stride, const i64* other, Visit visit) {
  i64 index[kMaxDims] = {}, a = 0, b = 0;
  for (;;) {
    visit(a, b);
    int d = dims - 2;
    for (; d >= 0; --d) {
      a += stride[d];
      b += other[d];
      if (++index[d] < size[d]) break;
      a -= size[d] * stride[d];
      b -= size[d] * other[d];
      index[d] = 0;
    }
    if (d < 0) return;
  }
}

void gather(const View& view, const Groups& groups, Numbering& numbers) {
  int dims = 0;
  i64 size[kMaxDims], from[kMaxDims], count = 1;
  for (int d = 0; d < view.dim_count; ++d) {
    if (groups.stride[d] == 0) continue;
    size[dims] = view.size[d];
    from[dims++] = groups.stride[d];
  }
  for (int d = view.dim_count - 1; d >= 0; --d) {
    numbers.stride[d] = groups.stride[d] == 0 ? 0 : count;
    if (groups.stride[d] != 0) count *= view.size[d];
  }
  numbers.values.resize(static_cast<std::size_t>(count));
  unsigned char* to = numbers.values.data();
  if (dims == 0) {
    *to = *groups.numbers;
    return;
  }
  const i64 row = size[dims - 1], step = from[dims - 1];
  visit_rows(dims, size, from, from, [&](i64 at, i64) {
    const unsigned char* p = groups.numbers + at;
    if (step == 1) {
      std::memcpy(to, p, static_cast<std::size_t>(row));
    } else {
      for (i64 i = 0; i < row; ++i) to[i] = p[i * step];
    }
    to += row;
  });
}

// The same positions in as few dims as can be: how the numbers lie kept some apart.
View joined(const View& view) {
  View one = view;
  int last = 0;
  for (int d = 1; d < view.dim_count; ++d) {
    const bool touch = one.stride[last] == view.size[d] * view.stride[d];
    if (!touch) ++last;
    one.size[last] = touch ? one.size[last] * view.size[d] : view.size[d];
    one.stride[last] = view.stride[d];
  }
  one.dim_count = last + 1;
  return one;
}

// How many of the numbers after the first differ from the one before. In sums of a byte, which
// compilers make of whole vectors.
i64 change_count(const unsigned char* numbers, i64 size) {
  constexpr i64 kFew = 128;
  i64 count = 0;
  for (i64 begin = 1; begin < size; begin += kFew) {
    const i64 end = std::min(size, begin + kFew);
    unsigned char few = 0;
    for (i64 i = begin; i < end; ++i) few += numbers[i] != numbers[i - 1];
    count += few;
  }
  return count;
}

// How many numbers are as the first, up to the first that is not.
i64 stretch_size(const unsigned char* numbers, i64 size) {
  const unsigned long long same = numbers[0] * 0x0101010101010101ull;
  i64 n = 1;
  for (; n + 8 <= size; n += 8) {
    unsigned long long word;
    std::memcpy(&word, numbers + n, sizeof word);
    if (word != same) break;
  }
  while (n < size && numbers[n] == numbers[0]) ++n;
  return n;
}

i64 product(const i64* size, int dims) {
  i64 count = 1;
  for (int d = 0; d < dims; ++d) count *= size[d];
  return count;
}

}  // namespace

bool Selection::is_of(const View& view, i64 least, const Numbering& numbers) const {
  const int dims = view.dim_count;
  return is_read_ && dims == dim_count_ && least == least_ &&
         std::equal(size_, size_ + dims, view.size) &&
         std::equal(stride_, stride_ + dims, view.stride) &&
         std::equal(numbers_.stride, numbers_.stride + dims, numbers.stride) &&
         numbers_.values == numbers.values;
}

void Selection::read(const View& view, i64 least, Numbering& numbers) {
  is_read_ = false;
  dim_count_ = view.dim_count;
  std::copy_n(view.size, dim_count_, size_);
  std::copy_n(view.stride, dim_count_, stride_);
  least_ = least;
  std::swap(numbers_, numbers);
  members_ = nullptr;
  if (are_shorter()) {
    spread();
    count_members();
  } else {
    find_stretches();
  }
  is_read_ = true;
}

MaskedView Selection::of(const View& view, int k) const {
  MaskedView one = whole(members_ == nullptr ? view : joined(view));
  one.counted = counted_[k];
  if (members_ != nullptr) {
    one.numbers = members_;
    one.group = static_cast<unsigned char>(k);
    return one;
  }
  one.stretches = stretches_.data() + begin_[k];
  one.stretch_count = begin_[k + 1] - begin_[k] - 1;
  one.dim_count = 1;
  one.size[0] = one.counted;
  one.stride[0] = view.stride[view.dim_count - 1];
  return one;
}

void Selection::trim() {
  const std::size_t bytes =
      numbers_.values.size() + of_all_.size() + stretches_.size() * sizeof(Stretch);
  if (bytes <= kKeptBytes) return;
  is_read_ = false;
  Numbering::Bytes().swap(numbers_.values);
  Numbering::Bytes().swap(of_all_);
  std::vector<Stretch>().swap(stretches_);
}

bool Selection::are_shorter() const {
  if (least_ == 0) return false;
  const int last = dim_count_ - 1;
  const i64 row = size_[last], reach = row * stride_[last];
  i64 changes = 0, follows = 0;
  unsigned char before = numbers_.values[0];
  visit_rows(dim_count_, size_, stride_, numbers_.stride, [&](i64 offset, i64 at) {
    const unsigned char* numbers = numbers_.values.data() + at;
    changes += offset == follows && *numbers != before;
    if (numbers_.stride[last] != 0) changes += change_count(numbers, row);
    before = numbers[(row - 1) * numbers_.stride[last]];
    follows = offset + reach;
  });
  return changes * least_ > product(size_, dim_count_);
}

// Let there be a number for each position.
void Selection::spread() {
  members_ = numbers_.values.data();
  const std::size_t positions = static_cast<std::size_t>(product(size_, dim_count_));
  if (numbers_.values.size() == positions) return;
  of_all_.resize(positions);
  members_ = of_all_.data();
  unsigned char* to = of_all_.data();
  const i64 row = size_[dim_count_ - 1];
  visit_rows(dim_count_, size_, stride_, numbers_.stride, [&](i64, i64 at) {
    const unsigned char* from = numbers_.values.data() + at;
    if (numbers_.stride[dim_count_ - 1] == 0) {
      std::fill_n(to, row, *from);
    } else {
      std::memcpy(to, from, static_cast<std::size_t>(row));
    }
    to += row;
  });
}

// Four counts of each number, so that one need not wait for the next where numbers repeat.
void Selection::count_members() {
  i64 counts[4][kNumbers] = {};
  const std::size_t size = numbers_.values.size();
  for (std::size_t i = 0; i < size; ++i) ++counts[i % 4][numbers_.values[i]];
  const i64 repeats = product(size_, dim_count_) / static_cast<i64>(size);
  for (int k = 0; k < kNumbers; ++k) {
    counted_[k] = (counts[0][k] + counts[1][k] + counts[2][k] + counts[3][k]) * repeats;
  }
}

void Selection::find_stretches() {
  struct Found {
    Stretch stretch;
    int group;
  };
  static thread_local std::vector<Found> found;  // of all groups, in the order of positions
  found.clear();
  i64 count[kNumbers] = {}, follows[kNumbers];  // where the last stretch of a group would go on
  std::fill_n(counted_, kNumbers, 0);
  std::fill_n(follows, kNumbers, std::numeric_limits<i64>::min());
  const int last = dim_count_ - 1;
  const i64 row = size_[last], step = stride_[last];
  const auto add = [&](int group, i64 offset, i64 size) {
    if (group == 0) return;
    if (offset != follows[group]) {  // joined where they touch, as dims are
      found.push_back({{counted_[group], offset}, group});
      ++count[group];
    }
    counted_[group] += size;
    follows[group] = offset + size * step;
  };
  visit_rows(dim_count_, size_, stride_, numbers_.stride, [&](i64 offset, i64 at) {
    const unsigned char* numbers = numbers_.values.data() + at;
    if (numbers_.stride[last] == 0) return add(*numbers, offset, row);
    for (i64 i = 0; i < row;) {
      const i64 n = stretch_size(numbers + i, row - i);
      add(numbers[i], offset + i * step, n);
      i += n;
    }
  });

  begin_[0] = 0;
  for (int k = 0; k < kNumbers; ++k) begin_[k + 1] = begin_[k] + count[k] + (count[k] > 0);
  stretches_.resize(static_cast<std::size_t>(begin_[kNumbers]));
  i64 place[kNumbers];
  std::copy_n(begin_, kNumbers, place);
  for (const Found& one : found) {
    stretches_[static_cast<std::size_t>(place[one.group]++)] = one.stretch;
  }
  for (int k = 0; k < kNumbers; ++k) {
    if (counted_[k] > 0) stretches_[static_cast<std::size_t>(place[k])] = {counted_[k], 0};
  }
  if (found.size() * sizeof(Found) > kKeptBytes) std::vector<Found>().swap(found);
}

const Selection& Selections::find(const View& view, const Groups& groups, i64 least) {
  gather(view, groups, fresh_);
  for (const Selection& one : kept_) {
    if (one.is_of(view, least, fresh_)) return one;
  }
  Selection& one = kept_[next_];
  next_ = (next_ + 1) % kKept;
  one.read(view, least, fresh_);
  return one;
}

void Selections::trim() {
  if (fresh_.values.size() > kKeptBytes) Numbering::Bytes().swap(fresh_.values);
  for (Selection& one : kept_) one.trim();
}

}  // namespace fmstats
