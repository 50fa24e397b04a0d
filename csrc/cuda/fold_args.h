// What a launch is given that folds partials (fmstats/statistic/partials.py): one struct by value,
// filled on the host (../cuda_fold.cpp).
#pragma once

#include "../parts.h"

namespace fmstats {

constexpr int kFoldThreads = 256;  // of a block
constexpr int kFoldRows = 16;      // planes side by side, where there are channels enough

// One layer's partials, and where they go. A block takes `lanes` channels of all planes.
struct FoldLayer {
  // (planes, channels) of each float32 number of several counts, as fmstats/statistic/packing.py
  // packs them, and of each sum and extreme: places in one tensor.
  const void *counts_in[kPartCounts], *reals[kPartFields - kPartCounts];
  i64* memory;    // a state's words, and behind them how many tensors graphs have measured
  i64 positions;  // of a channel, in all planes together
  int channels, planes;
  unsigned first_block;  // of a layer with the state of the one before: where it would begin
  short lanes;           // a power of 2, the same of all layers of a state
  // How many bits a count has, how many are one number (at most kPartCounts), and how many there
  // are.
  unsigned char bits, together, counts;
  unsigned char mode;
};

// As many as every driver takes by value: 4 KB.
constexpr int kFoldLayers = (4096 - 16) / sizeof(FoldLayer);

struct FoldArgs {
  i64* clock;  // what time it is, and whether graphs measure this pass: state.h
  int count;   // of layers; those of one state follow one another
  FoldLayer layers[kFoldLayers];
};
static_assert(sizeof(FoldArgs) <= 4096, "more than a launch takes");

}  // namespace fmstats
