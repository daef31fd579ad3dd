// Selective scan of rows of equal length; see the package for the recurrence.
#pragma once

#include "../csrc/types.h"

namespace braidlm {

struct SelectiveScan {
  Sequence x, dt, y;    // [rows, length, channels]
  Sequence b, c;        // [rows, length, states]
  const float* a;       // [channels, states]
  const float* d;       // [channels]
  const float* before;  // [rows, channels, states]
  float* after;         // likewise
  int64_t rows, length, channels, states;
};

// Channels that are computed together; a row's blocks of this size are numbered through all rows.
inline constexpr int64_t kScanChannels = 64;

struct SelectiveScanKernels {
  // Floats of working memory that `forward` needs.
  int64_t (*scratch)(const SelectiveScan&);
  // Blocks [begin, end).
  void (*forward)(const SelectiveScan&, int64_t begin, int64_t end, float* scratch);
};

}  // namespace braidlm
