// Which kernel reads a tensor, and how its work is cut: by shape, strides and alignment alone, and
// by the number of multiprocessors, so that the same GPU always gives the same bits. Needs no GPU.
#pragma once

#include "args.h"

namespace fmstats {

struct CudaLaunch {
  CudaKernel kernel;
  unsigned grid_x, grid_y, block;
  i64 parts_words;  // of the workspace that `args.parts` has to point to
  i64 tickets;      // that `args.tickets` has to point to, all 0
  CudaArgs args;    // but for state, clock, parts, tickets and thresholds
};

// The kernel's name in kernels.cu.
const char* kernel_name(CudaKernel kernel);

// `view` has at least one channel and one position. Throws std::invalid_argument if it has more
// channels than a grid has blocks.
CudaLaunch plan_launch(const View& view, int multiprocessors);

}  // namespace fmstats
