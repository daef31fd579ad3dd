// Root-mean-square norms over the rows of a table; see the package for the formulas.
#pragma once

#include "../csrc/types.h"

namespace braidlm {

struct RmsNorm {
  Table x, out;
  const float* weight;  // [width]
  int64_t width;
  float eps;
  bool eps_outside_root;
};

struct GatedRmsNorm {
  Table y, gate, out;
  const float* weight;  // [width]
  int64_t width, groups;
  float eps;
};

struct NormKernels {
  // Rows [begin, end).
  void (*rms_norm)(const RmsNorm&, int64_t begin, int64_t end);
  void (*gated_rms_norm)(const GatedRmsNorm&, int64_t begin, int64_t end);
};

}  // namespace braidlm
