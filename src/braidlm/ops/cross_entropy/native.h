// Cross-entropy of rows of logits; see the package for the formulas.
#pragma once

#include "../csrc/types.h"

namespace braidlm {

struct CrossEntropy {
  Table logits;
  const int64_t* targets;
  int64_t width;
  float scale, z_loss;
  bool gradient;  // takes the place of the logits
  float *plain, *sums;
};

struct CrossEntropyNativeKernels {
  // Rows [begin, end).
  void (*cross_entropy)(const CrossEntropy&, int64_t begin, int64_t end);
};

}  // namespace braidlm
