// One token of a mixture of experts.
#pragma once

#include "../plan/plan.h"

namespace braidlm {

// Chosen experts of every row: first their gated halves, then their sums. `logits` holds the router's.
struct MoeStep {
  Input input;
  Matrix gate_up, down;   // [experts, 2 hidden, width], [experts, width, hidden]
  Offset logits, hidden;  // hidden: [top_k, hidden]
  int64_t experts, top_k;
  Output output;
};

struct MoeStepKernels {
  void (*step)(const MoeStep&, const Member&);
};

}  // namespace braidlm
