// One token of a selective scan.
#pragma once

#include "../plan/plan.h"

namespace braidlm {

struct ScanStep {
  Offset x, dt, b, c, z, y;
  const float *a, *d, *dt_bias;  // a [states, channels], negative
  const float *b_norm, *c_norm;  // [states] or null
  float eps;
  bool eps_outside_root;
  int64_t channels, states;
  int state;  // [states, channels]
};

struct SelectiveScanStepKernels {
  void (*step)(const ScanStep&, const Member&);
};

}  // namespace braidlm
