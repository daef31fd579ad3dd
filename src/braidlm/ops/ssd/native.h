// The state-space dual scan of rows of equal length; see the package for the recurrence.
#pragma once

#include "../csrc/types.h"

namespace braidlm {

struct Ssd {
  Sequence x, y;        // [rows, length, heads * head_dim]
  Sequence dt;          // [rows, length, heads]
  Sequence b, c;        // [rows, length, groups * states]
  const float *a, *d;   // [heads]
  const float* before;  // [rows, heads, head_dim, states]
  float* after;         // likewise
  int64_t rows, length, heads, head_dim, groups, states;
};

struct SsdNativeKernels {
  // Floats of working memory that `forward` needs.
  int64_t (*scratch)(const Ssd&);
  // Heads [begin, end), numbered through all rows.
  void (*forward)(const Ssd&, int64_t begin, int64_t end, float* scratch);
};

// Heads of a group whose gradients are computed together. Blocks of them are numbered within a group
// first, then through the groups, then through all rows.
inline constexpr int64_t kSsdGradientHeads = 4;

// Blocks of one group. Static, so that no instruction-set level uses another one's copy.
static inline int64_t ssd_gradient_blocks(const Ssd& op) {
  return (op.heads / op.groups + kSsdGradientHeads - 1) / kSsdGradientHeads;
}

// Gradients: of what the scan gave, and of what it was given. Sums over rows, and for b and c over
// blocks of heads, are left to the caller, so that they have one order.
struct SsdGradients {
  Sequence dy;          // [rows, length, heads * head_dim]
  const float* dafter;  // [rows, heads, head_dim, states]
  Sequence dx, ddt;     // of x's and dt's shape
  float *db, *dc;       // [blocks, length, states]
  float *da, *dd;       // [rows, heads]
  float* dbefore;       // [rows, heads, head_dim, states]
};

struct SsdBackwardKernels {
  // Floats of working memory that `backward` needs.
  int64_t (*scratch)(const Ssd&);
  // Blocks [begin, end); `y` and `after` of the scan are not read.
  void (*backward)(const Ssd&, const SsdGradients&, int64_t begin, int64_t end, float* scratch);
};

}  // namespace braidlm
