// One token of state-space duality.
#pragma once

#include "../plan/plan.h"

namespace braidlm {

struct SsdStep {
  Offset x, b, c, dt, y;
  const float *a, *d, *dt_bias;  // [heads]
  float dt_min, dt_max;
  int64_t heads, head_dim, groups, states;
  int state;  // [heads, head_dim, states]
};

struct SsdStepKernels {
  void (*step)(const SsdStep&, const Member&);
};

}  // namespace braidlm
