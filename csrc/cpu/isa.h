// The instruction sets that this build holds, and those that this processor has.
#pragma once

#include "job.h"

namespace fmstats {

extern const Kernels kAvx512, kAvx2, kBaseline;

// Every instruction set compiled in, best first; the last is usable everywhere.
extern const Kernels* const kIsas[];
extern const int kIsaCount;

bool isa_usable(const Kernels& kernels);

}  // namespace fmstats
