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

struct SsdKernels {
  // Floats of working memory that `forward` needs.
  int64_t (*scratch)(const Ssd&);
  // Heads [begin, end), numbered through all rows.
  void (*forward)(const Ssd&, int64_t begin, int64_t end, float* scratch);
};

}  // namespace braidlm
