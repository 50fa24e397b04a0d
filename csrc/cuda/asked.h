// What a kernel measures on request, beside what it always does. The host chooses it with the
// kernel, which is compiled for that choice: what nobody asks for costs nothing.
#pragma once

#include "../requested.h"

namespace fmstats {

// Whose elements a histogram counts: nobody's, all of a layer or group, or a channel's.
enum Scope { kNoHistogram, kOfLayer, kOfChannel, kScopes };

struct Asked {
  bool sums;       // whether elements are added up to PowerSums
  Scope scope;     // of histograms
  int resolution;  // of their bins
};

FMSTATS_FN constexpr int histogram_words(int resolution) {
  return 2 * bins_of_sign(resolution);
}

// Bytes of the histograms that a block has of so many channels, each word counted once.
FMSTATS_FN constexpr int histogram_bytes(const Asked& asked, int channels) {
  const int one = static_cast<int>(sizeof(int)) * histogram_words(asked.resolution);
  return asked.scope == kNoHistogram ? 0 : asked.scope == kOfLayer ? one : channels * one;
}

}  // namespace fmstats
