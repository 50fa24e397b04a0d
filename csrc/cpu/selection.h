// Which positions of a view are in which group, in the forms that kernels take (MaskedView).
//
// What is found depends on the numbers' values and on the view, not on where the numbers lie, and
// so the bits of the statistic do not either.
#pragma once

#include <vector>

#include "driver.h"

namespace fmstats {

// The groups of positions along those dims of a view that they depend on, each once.
struct Numbering {
  typedef std::vector<unsigned char> Bytes;
  Bytes values;          // in the order of positions
  i64 stride[kMaxDims];  // by the dims of the view; 0 along those that they do not depend on
};

class Selection {
 public:
  // Whether this is what `read` would find.
  bool is_of(const View& view, i64 least, const Numbering& numbers) const;

  // Find the positions of all groups of a view that is not empty. Kernels are to walk all
  // positions, and leave out some, where stretches are shorter on average than `least`. What was
  // here before is left in `numbers`.
  void read(const View& view, i64 least, Numbering& numbers);

  // How many positions are in group k.
  i64 counted(int k) const { return counted_[k]; }

  // The view, of the positions of group k alone. It refers to what was found.
  MaskedView of(const View& view, int k) const;

  // Forget what takes much memory.
  void trim();

 private:
  static constexpr int kNumbers = 256;  // that a byte can be

  bool are_shorter() const;
  void spread();
  void count_members();
  void find_stretches();

  bool is_read_ = false;  // as a whole, and not forgotten
  int dim_count_;         // of the view, as the next two
  i64 size_[kMaxDims], stride_[kMaxDims];
  i64 least_;
  Numbering numbers_;
  Numbering::Bytes of_all_;         // the numbers of all positions, where these are more
  const unsigned char* members_;    // the numbers of all positions, or null: there are stretches
  std::vector<Stretch> stretches_;  // group by group; behind each, one that would come next
  i64 begin_[kNumbers + 1];         // of the stretches of a group
  i64 counted_[kNumbers];
};

// The last selections. All layers of one shape have the same in a pass, and more than one shape may
// take turns.
class Selections {
 public:
  // Find the positions of groups, or find them here. The values are compared, since they may have
  // changed in place.
  const Selection& find(const View& view, const Groups& groups, i64 least);
  void trim();

 private:
  static constexpr int kKept = 4;
  Numbering fresh_;
  Selection kept_[kKept];
  int next_ = 0;
};

}  // namespace fmstats
