// One token of a modal convolution.
#pragma once

#include "../plan/plan.h"

namespace braidlm {

// The modal recurrence; real and imaginary parts apart.
struct ModalStep {
  Offset x, y;                        // x: [parts, 3, channels / parts]: gate, and the two factors of the input
  const float *poles, *residues, *d;  // [2, modes, channels], [channels]
  int64_t channels, parts, modes;
  int state;  // [2, modes, channels]
};

struct GatedConvStepKernels {
  void (*step)(const ModalStep&, const Member&);
};

}  // namespace braidlm
