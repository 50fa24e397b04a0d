// Asked here and not beside the kernels: this file is compiled for the baseline.
#include "isa.h"

namespace fmstats {

const Kernels* const kIsas[] = {
#if defined(__x86_64__)
    &kAvx512,
    &kAvx2,
#endif
    &kBaseline,
};
const int kIsaCount = sizeof kIsas / sizeof *kIsas;

bool isa_usable(const Kernels& kernels) {
#if defined(__x86_64__)
  if (&kernels == &kAvx512) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("fma");
  }
  if (&kernels == &kAvx2) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("f16c");
  }
#endif
  return &kernels == &kBaseline;
}

}  // namespace fmstats
