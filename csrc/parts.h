// The parts of a tensor in memory, between the pass over the data and the merge into the state:
// field-major words, as a state's. Word (field, channel) of split s is at
// parts[(s * kPartFields + field) * part_row + channel].
#pragma once

#include "statistic.h"

namespace fmstats {

#define FMSTATS_ROW(name, Name, ...) kPart##Name,
enum PartField { FMSTATS_PART_FIELDS(FMSTATS_ROW) kPartFields };
#undef FMSTATS_ROW

// Counts come first.
#define FMSTATS_ONE(...) +1
constexpr int kPartCounts = 0 FMSTATS_PART_COUNTS(FMSTATS_ONE);
#undef FMSTATS_ONE

}  // namespace fmstats
