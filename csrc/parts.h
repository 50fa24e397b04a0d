// The parts of a tensor in memory, between the pass over the data and the merge into the state:
// field-major words, as a state's. Word (field, channel) of split s is at
// parts[(s * kPartFields + field) * part_row + channel].
#pragma once

#include "statistic.h"

namespace fmstats {

enum PartField {
  kPartNan,
  kPartPosInf,
  kPartNegInf,
  kPartZeros,
  kPartSatLow,
  kPartSatHigh,
  kPartSum,
  kPartSumSq,
  kPartMin,
  kPartMax,
  kPartFields
};

}  // namespace fmstats
