// Compiled with the AVX-512 flags of setup.py.
#define FMSTATS_VECTOR_BYTES 64
#include "isa.h"
#include "kernels.h"

constexpr fmstats::Kernels fmstats::kAvx512 = fmstats::kernels_of("avx512");
