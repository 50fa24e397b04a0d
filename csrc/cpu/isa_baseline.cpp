// Compiled for every processor of the architecture: SSE2 on x86-64, NEON on arm64.
#define FMSTATS_VECTOR_BYTES 16
#include "isa.h"
#include "kernels.h"

constexpr fmstats::Kernels fmstats::kBaseline = fmstats::kernels_of("baseline");
