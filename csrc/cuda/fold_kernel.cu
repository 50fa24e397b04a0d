// The kernel that folds partials, of layers of any mode; compiled when it is first needed.
#include "graph_fold.cuh"

// Two blocks of a multiprocessor leave the registers that a merge takes, and have loads enough in
// flight.
extern "C" __global__ void __launch_bounds__(fmstats::kFoldThreads, 2)
    fmstats_measure(const __grid_constant__ fmstats::FoldArgs args) {
  fmstats::fold_graph(args);
}
