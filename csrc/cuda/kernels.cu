// The kernels of one dtype and one mode, FMSTATS_DTYPE and FMSTATS_MODE, compiled when first needed.
#include "columns.cuh"
#include "runs.cuh"

using namespace fmstats;

typedef Element<FMSTATS_DTYPE> E;

#define FMSTATS_KERNEL(name, threads, measure)                         \
  extern "C" __global__ void __launch_bounds__(threads, 512 / threads) \
      name(const __grid_constant__ CudaArgs args) {                    \
    measure(args);                                                     \
  }

FMSTATS_KERNEL(rows, kThreads, (measure_by_block<E, FMSTATS_MODE, RunSlots<E>>))
FMSTATS_KERNEL(rows_warp, kThreads, (measure_by_warp<E, FMSTATS_MODE, RunSlots<E>>))
FMSTATS_KERNEL(strided, kThreads, (measure_by_block<E, FMSTATS_MODE, StridedSlots<E>>))
FMSTATS_KERNEL(strided_warp, kThreads, (measure_by_warp<E, FMSTATS_MODE, StridedSlots<E>>))
FMSTATS_KERNEL(columns, kColumnThreads, (measure_columns<E, FMSTATS_MODE, kColumnVector<sizeof(E::Storage)>>))
FMSTATS_KERNEL(columns_one, kColumnThreads, (measure_columns<E, FMSTATS_MODE, 1>))
