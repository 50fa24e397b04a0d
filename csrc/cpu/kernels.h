// The table of functions of one instruction set; included by each isa_*.cpp and nowhere else.
#pragma once

#include "columns.h"
#include "few.h"
#include "fold.h"
#include "requested.h"
#include "rows.h"

#define FMSTATS_EACH_DTYPE(kernel)                        \
  {kernel(Float32),  kernel(Float64),    kernel(Float16), \
   kernel(BFloat16), kernel(Float8E4M3), kernel(Float8E5M2)}
#define FMSTATS_ROWS(E) &scan_rows<E, true>
#define FMSTATS_COLUMNS(E) &scan_columns<E>
#define FMSTATS_STRIDED(E) &scan_rows<E, false>
#define FMSTATS_FEW(E) &measure_few<E>
#define FMSTATS_REQUEST(E) &request<E>

namespace fmstats {
namespace {

// constexpr: a table filled at load time would run this file's instructions on any processor.
constexpr Kernels kernels_of(const char* isa) {
  return {isa,
          FMSTATS_VECTOR_BYTES,
          FMSTATS_EACH_DTYPE(FMSTATS_ROWS),
          FMSTATS_EACH_DTYPE(FMSTATS_COLUMNS),
          FMSTATS_EACH_DTYPE(FMSTATS_STRIDED),
          FMSTATS_EACH_DTYPE(FMSTATS_FEW),
          kFewPositions,
          FMSTATS_EACH_DTYPE(FMSTATS_REQUEST),
          &settle_all,
          &fold_requested,
          &choose_pivots,
          &fold_channels};
}

}  // namespace
}  // namespace fmstats
