// One token of a short convolution.
#pragma once

#include "../plan/plan.h"

namespace braidlm {

struct ConvStep {
  Offset x, y;
  const float *weight, *bias;  // [taps, channels], [channels] or null
  int64_t channels, taps;
  int state;  // [taps - 1, channels]
  bool silu;
};

struct CausalConv1dStepKernels {
  void (*step)(const ConvStep&, const Member&);
};

}  // namespace braidlm
