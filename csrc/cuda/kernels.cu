// One kernel, FMSTATS_KERNEL, of one dtype, FMSTATS_DTYPE, in one mode, FMSTATS_MODE, and for what
// is asked for beside (requests.cuh); compiled when it is first needed.
#include "runs.cuh"
#include "tiles.cuh"

namespace fmstats {

typedef Element<FMSTATS_DTYPE> E;

// Threads of a block, and blocks of a multiprocessor: registers leave room for 32 KB of loads in
// flight.
template <Runs kRuns, class Arguments = CudaArgs>
struct ByBlock {
  typedef Arguments Args;
  static constexpr int kBlock = kThreads, kBlocks = kRowBlocks;
  static __device__ __forceinline__ void run(const Args& a) {
    measure_by_block<E, FMSTATS_MODE, kRuns>(a);
  }
};
template <Runs kRuns, class Arguments = CudaArgs>
struct ByWarp {
  typedef Arguments Args;
  static constexpr int kBlock = kThreads, kBlocks = kRowBlocks;
  static __device__ __forceinline__ void run(const Args& a) {
    measure_by_warp<E, FMSTATS_MODE, kRuns>(a);
  }
};
template <bool kOne, class Arguments = CudaArgs>
struct ByTile {
  typedef Arguments Args;
  static constexpr int kBlock = kColumnThreads;
  static constexpr int kBlocks = column_blocks(kOne ? 4 : sizeof(E::Storage), kAsked.sums);
  static __device__ __forceinline__ void run(const Args& a) {
    measure_columns<E, FMSTATS_MODE, kOne>(a);
  }
};

// Begins a pass in a graph, where no host does.
struct BeginPass {
  typedef CudaArgs Args;
  static constexpr int kBlock = kWarp, kBlocks = 1;
  static __device__ __forceinline__ void run(const CudaArgs& a) {
    if (threadIdx.x == 0) begin_replayed_pass(a.clock);
  }
};

typedef BeginPass begin_pass;
typedef ByBlock<kWholeRuns> rows;
typedef ByWarp<kWholeRuns> rows_warp;
typedef ByBlock<kRaggedRuns> ragged;
typedef ByWarp<kRaggedRuns> ragged_warp;
typedef ByBlock<kNoRuns> strided;
typedef ByWarp<kNoRuns> strided_warp;
typedef ByTile<false> columns;
typedef ByTile<true> columns_one;
typedef ByBlock<kWholeRuns, GroupedArgs> grouped_rows;
typedef ByWarp<kWholeRuns, GroupedArgs> grouped_rows_warp;
typedef ByBlock<kNoRuns, GroupedArgs> grouped_strided;
typedef ByWarp<kNoRuns, GroupedArgs> grouped_strided_warp;
typedef ByTile<false, GroupedArgs> grouped_columns;
typedef ByTile<true, GroupedArgs> grouped_columns_one;

}  // namespace fmstats

extern "C" __global__ void __launch_bounds__(fmstats::FMSTATS_KERNEL::kBlock,
                                             fmstats::FMSTATS_KERNEL::kBlocks)
    fmstats_measure(const __grid_constant__ fmstats::FMSTATS_KERNEL::Args args) {
  if (args.replays != nullptr) {  // no host has asked whether this pass is measured
    if (!fmstats::gate_open(args.clock)) return;
    if (blockIdx.x == 0 && blockIdx.y == 0 && threadIdx.x == 0) *args.replays += 1;
  }
  fmstats::FMSTATS_KERNEL::run(args);
}
