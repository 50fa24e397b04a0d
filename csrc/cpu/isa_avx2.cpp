// Compiled with the AVX2 flags of setup.py.
#define FMSTATS_VECTOR_BYTES 32
#include "isa.h"
#include "kernels.h"

constexpr fmstats::Kernels fmstats::kAvx2 = fmstats::kernels_of("avx2");
