// Which kernel reads a tensor, and how its work is cut: by shape, strides and alignment alone, and
// by the number of multiprocessors, so that the same GPU always gives the same bits. Needs no GPU.
#pragma once

#include <string>

#include "args.h"

namespace fmstats {

struct CudaLaunch {
  CudaKernel kernel;
  unsigned grid_x, grid_y, block;
  i64 parts_words;  // of the workspace that `args.parts` has to point to
  i64 tickets;      // that `args.tickets` has to point to, all 0
  CudaArgs args;    // but for state, clock, parts, tickets, thresholds and requested
};

// A launch whose positions are in groups.
struct GroupedLaunch : CudaLaunch {
  GroupNumbers numbers;
};

// The kernel's name in kernels.cu.
std::string kernel_name(const CudaLaunch& launch);
std::string kernel_name(const GroupedLaunch& launch);

// `view` has at least one channel and one position. Throws std::invalid_argument if it has more
// channels than a grid has blocks.
CudaLaunch plan_launch(const View& view, int multiprocessors, const Asked& asked);

// The same of a view whose positions are in groups. The plan does not depend on how their numbers
// lie in memory, nor do the bits that come of it.
GroupedLaunch plan_grouped_launch(const View& view, const Groups& groups, int multiprocessors,
                                  const Asked& asked);

}  // namespace fmstats
