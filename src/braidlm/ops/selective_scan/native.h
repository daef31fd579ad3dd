// Selective scan of rows of equal length; see the package for the recurrence.
#pragma once

#include "../csrc/types.h"

namespace braidlm {

struct SelectiveScan {
  Sequence x, dt, y;     // [rows, length, channels]
  Sequence gate;         // likewise, or null: y is multiplied by its silu
  const float* dt_bias;  // [channels], or null: dt is the softplus of the sum
  Sequence b, c;         // [rows, length, states]
  const float* a;        // [channels, states]
  const float* d;        // [channels]
  const float* before;   // [rows, channels, states]
  float* after;          // likewise
  float* borders;        // [rows, blocks, pieces, states, kScanChannels] or null: the states before every piece of time
  int64_t rows, length, channels, states;
};

// Channels that are computed together; a row's blocks of this size are numbered through all rows.
inline constexpr int64_t kScanChannels = 64;
// Tokens of a piece of time.
inline constexpr int64_t kScanTokens = 32;

inline int64_t scan_blocks(const SelectiveScan& op) { return (op.channels + kScanChannels - 1) / kScanChannels; }
inline int64_t scan_pieces(const SelectiveScan& op) { return (op.length + kScanTokens - 1) / kScanTokens; }

struct SelectiveScanNativeKernels {
  // Floats of working memory that `forward` needs.
  int64_t (*scratch)(const SelectiveScan&);
  // Blocks [begin, end).
  void (*forward)(const SelectiveScan&, int64_t begin, int64_t end, float* scratch);
};

// Gradients: of what the scan gave, and of what it was given. Sums over rows, and for b and c over
// blocks of channels, are left to the caller, so that they have one order.
struct SelectiveScanGradients {
  Sequence dy;           // [rows, length, channels]
  const float* dafter;   // [rows, channels, states]
  Sequence dx, ddt;      // [rows, length, channels]
  Sequence dgate;        // likewise, where there is a gate
  float *db, *dc;        // [rows, blocks, length, states]
  float *da, *dbefore;   // [rows, channels, states]
  float *dd, *ddt_bias;  // [rows, channels]; the second where there is a bias
};

struct SelectiveScanBackwardKernels {
  int64_t (*scratch)(const SelectiveScan&);
  // Blocks [begin, end); `y`, `before` and `after` of the scan are not read, `borders` are.
  void (*backward)(const SelectiveScan&, const SelectiveScanGradients&, int64_t begin, int64_t end, float* scratch);
};

}  // namespace braidlm
