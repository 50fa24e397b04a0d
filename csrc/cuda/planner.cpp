#include "planner.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

#include "dims.h"

namespace fmstats {
namespace {

constexpr i64 kMaxRun = i64{1} << 30;  // positions or bytes, that a step may go beyond in 32 bits
// Positions of a split, which 32-bit counts can hold; elements of a block that has histograms.
constexpr i64 kMaxSplit = i64{1} << 30;
constexpr i64 kMostBlocks = (i64{1} << 31) - 1;
// A split is worth its fixed cost, some hundred instructions a thread, from so many loads on.
constexpr i64 kLoadsWorthASplit = 8;
// What a part of a channel costs to write and read, twice over, in bytes.
constexpr i64 kPartsTraffic = 2 * 2 * 8 * kPartFields;
// Loads of a lane up to which a warp is enough for a channel; with more channels than blocks at a
// time as many times that, at most kMostWaves times.
constexpr i64 kWarpLoads = 16;
constexpr i64 kMostWaves = 4;
// What a block of rows costs beside its loads (pivot, sums, tickets), in loads of a thread.
constexpr i64 kBlockLoads = 16;
constexpr unsigned kGroupFrom = 16;  // splits that one block adds up by itself

i64 ceil_div(i64 a, i64 b) {
  return (a + b - 1) / b;
}

class Planner {
 public:
  // groups: of positions; 0 where they are in none.
  Planner(const View& view, int groups, int multiprocessors, const Asked& asked)
      : view_(view),
        asked_(asked),
        grouped_(groups > 0),
        groups_(std::max(groups, 1)),
        channels_(view.channels * groups_),
        part_words_(kPartFields + (grouped_ ? 1 : 0) + (asked.sums ? kPowerSums : 0)),
        multiprocessors_(multiprocessors),
        bytes_(element_bytes(view.dtype)),
        vector_(kSlotBytes / bytes_),
        last_(view.dim_count - 1),
        run_(view.size[last_]),
        runs_(view.dim_count > 1 ? view.size[0] : 1) {
    CudaArgs& a = plan_.args;
    a = {};
    a.view = view;
    a.positions = position_count(view);
    a.narrow = a.positions < kFar;
    for (int d = 1; d <= last_; ++d) a.by[d] = divisor_of(view.size[d]);
    a.splits = a.groups = 1;
    a.part_row = ceil_div(channels_, 4) * 4;
    a.requested = {nullptr, nullptr, nullptr, asked.scope == kOfChannel, asked.resolution};
  }

  CudaLaunch plan() {
    const bool in_runs = view_.dim_count <= 2 && (view_.dim_count == 1 || run_ <= kMaxRun);
    if (view_.channel_stride == 1 && view_.channels > 1 && in_runs) {
      columns();
    } else if (view_.stride[last_] == 1 && view_.dim_count <= 2 && run_ * bytes_ <= kMaxRun &&
               run_ >= vector_) {
      rows(in_runs);
    } else {
      strided(in_runs);
    }
    return plan_;
  }

 private:
  // Whether steps of so many elements lead from one 16-byte boundary to the next.
  bool aligned(i64 elements) const { return elements * bytes_ % kSlotBytes == 0; }
  bool data_aligned() const {
    return reinterpret_cast<unsigned long long>(view_.data) % kSlotBytes == 0;
  }

  void columns() {
    bool vectors = data_aligned() && view_.channels % vector_ == 0;
    for (int d = 0; d <= last_; ++d) {
      vectors = vectors && (aligned(view_.stride[d]) || view_.size[d] == 1);
    }
    plan_.kernel = vectors ? kColumns : kColumnsOne;
    const i64 across = vectors ? view_.channels / vector_ : view_.channels;
    const int of_thread = vectors ? static_cast<int>(vector_) : 1;
    const int most = most_lanes(of_thread, view_.dtype == kFloat64 ? 8 : 4, asked_);
    int lanes = 1;
    while (lanes < most && lanes < across) lanes *= 2;
    const i64 rows = kColumnThreads / lanes, tiles = groups_ * ceil_div(across, lanes);
    CudaArgs& a = plan_.args;
    a.lanes = lanes;
    a.slots = a.positions;
    step_over_positions(rows, true);
    const i64 worth = std::max(rows * kLoadsWorthASplit, kPartsTraffic / bytes_);
    const i64 at_a_time = column_blocks(vectors ? bytes_ : 4, asked_.sums) * multiprocessors_;
    split(std::min(std::max(i64{1}, at_a_time / tiles), a.slots / worth), lanes * of_thread);
    if (a.splits > kGroupFrom) {
      a.groups = static_cast<unsigned>(std::ceil(std::sqrt(a.splits)));
      // As many as there really are, of the size that the kernel works out from their number.
      a.groups = static_cast<unsigned>(ceil_div(a.splits, ceil_div(a.splits, a.groups)));
    }
    plan_.tickets = tiles * (1 + a.groups);
    const i64 parts = a.splits + (a.groups > 1 ? a.groups : 0);
    plan_.parts_words = parts * part_words_ * a.part_row;
    launch(tiles, kColumnThreads);
  }

  void rows(bool in_runs) {
    CudaArgs& a = plan_.args;
    const bool whole = data_aligned() && aligned(run_) &&
                       (runs_ == 1 || aligned(view_.stride[0])) &&
                       (view_.channels == 1 || aligned(view_.channel_stride));
    if (!whole && grouped_) return strided(in_runs);  // no kernel of ragged runs takes groups
    a.run_bytes = static_cast<int>(run_ * bytes_);
    a.slots = runs_ * (run_ / vector_);
    if (whole) {
      by_warp_or_block(kRowsWarp, kRows, kLoadsWorthASplit, kWarpLoads);
    } else {
      by_warp_or_block(kRaggedWarp, kRagged, kLoadsWorthASplit, kWarpLoads);
      a.edge_runs = ceil_div(runs_, a.splits);
    }
    step(group_, run_ / vector_, runs_ > 1 ? view_.stride[0] * bytes_ : 0, kSlotBytes);
    if (!whole) {  // its vectors lie where the run's address says
      a.step_bytes = group_ / a.run_places * a.run_stride_bytes;
      a.wrap_bytes = a.run_stride_bytes;
    }
  }

  void strided(bool in_runs) {
    plan_.args.slots = plan_.args.positions;
    by_warp_or_block(kStridedWarp, kStrided, kLoadsWorthASplit * 4, kWarpLoads * 4);
    step_over_positions(group_, in_runs);
  }

  void step_over_positions(i64 by, bool in_runs) {
    plan_.args.in_runs = in_runs;
    const bool two = view_.dim_count > 1 && in_runs;
    step(by, two ? run_ : 1, view_.stride[0] * bytes_, two ? view_.stride[last_] * bytes_ : 0);
  }

  // The walk in steps of `by` places, see CudaArgs.
  void step(i64 by, i64 places, i64 run_bytes, i64 place_bytes) {
    CudaArgs& a = plan_.args;
    a.run_places = static_cast<int>(places);
    a.by_run_places = divisor_of(places);
    a.run_stride_bytes = run_bytes;
    a.place_bytes = place_bytes;
    a.step_places = static_cast<int>(by % places);
    a.step_bytes = by / places * run_bytes + by % places * place_bytes;
    a.wrap_bytes = run_bytes - places * place_bytes;
  }

  void by_warp_or_block(CudaKernel by_warp, CudaKernel by_block, i64 worth, i64 warp_loads) {
    CudaArgs& a = plan_.args;
    const i64 at_a_time = kRowBlocks * multiprocessors_;
    const i64 waves = std::min(ceil_div(channels_, at_a_time), kMostWaves);
    if (a.slots <= kWarp * warp_loads * waves) {
      plan_.kernel = by_warp;
      group_ = kWarp;
      a.per_split = a.slots;
      return launch(ceil_div(channels_, kThreads / kWarp), kThreads);
    }
    plan_.kernel = by_block;
    group_ = kThreads;
    split(std::min(best_splits(at_a_time), a.slots / (kThreads * worth)),
          by_block == kStrided ? 1 : vector_);
    if (a.splits > 1) {
      plan_.tickets = channels_;
      plan_.parts_words = a.splits * part_words_ * a.part_row;
    }
    launch(channels_, kThreads);
  }

  // Blocks of each channel, so that whole waves of them are done soonest.
  i64 best_splits(i64 at_a_time) const {
    i64 best = 1, least = 0;
    for (i64 waves = 1; waves <= kMostWaves; ++waves) {
      const i64 splits = waves * at_a_time / channels_;
      if (splits < 1) continue;
      const i64 loads = ceil_div(plan_.args.slots, splits * kThreads);
      const i64 cost = waves * (kBlockLoads + loads);
      if (least == 0 || cost < least) {
        best = splits;
        least = cost;
      }
    }
    return best;
  }

  // Cut the slots of each channel or tile, fewer times where nothing would be left for some.
  void split(i64 wanted, i64 elements) {
    CudaArgs& a = plan_.args;
    const i64 most = asked_.scope == kNoHistogram ? kMaxSplit : kMaxSplit / elements;
    const i64 splits = std::max({i64{1}, wanted, ceil_div(a.slots, most)});
    // Whole warps, whose loads then begin where a sector of memory does.
    a.per_split = ceil_div(ceil_div(a.slots, splits), kWarp) * kWarp;
    a.splits = static_cast<unsigned>(ceil_div(a.slots, a.per_split));
  }

  void launch(i64 blocks, unsigned threads) {
    if (blocks > kMostBlocks) {
      throw std::invalid_argument("a tensor of " + std::to_string(channels_) +
                                  " channels is more than a launch can hold");
    }
    plan_.grid_x = static_cast<unsigned>(blocks);
    plan_.grid_y = plan_.args.splits;
    plan_.block = threads;
  }

  const View& view_;
  const Asked asked_;
  const bool grouped_;
  const i64 groups_;
  const i64 channels_;    // of the state
  const i64 part_words_;  // of a part of a channel
  const int multiprocessors_;
  const i64 bytes_, vector_;  // of an element; elements of 16 bytes
  const int last_;
  const i64 run_, runs_;
  int group_ = 0;  // threads that measure a channel together
  CudaLaunch plan_ = {};
};

}  // namespace

std::string kernel_name(const CudaLaunch& launch) {
  constexpr const char* names[kCudaKernels] = {"rows",    "rows_warp",    "ragged",  "ragged_warp",
                                               "strided", "strided_warp", "columns", "columns_one"};
  return names[launch.kernel];
}

std::string kernel_name(const GroupedLaunch& launch) {
  return "grouped_" + kernel_name(static_cast<const CudaLaunch&>(launch));
}

CudaLaunch plan_launch(const View& view, int multiprocessors, const Asked& asked) {
  return Planner(view, 0, multiprocessors, asked).plan();
}

GroupedLaunch plan_grouped_launch(const View& view, const Groups& groups, int multiprocessors,
                                  const Asked& asked) {
  const View whole = without_groups(view);
  GroupedLaunch launch = {Planner(whole, groups.count, multiprocessors, asked).plan(), {}};
  launch.numbers = numbers_of(view, groups);
  return launch;
}

}  // namespace fmstats
