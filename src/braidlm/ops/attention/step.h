// One token of attention.
#pragma once

#include "../plan/plan.h"

namespace braidlm {

struct AttentionStep {
  Offset q, y;
  int64_t heads;
  int kv;
  float scale;
  int64_t window, sink_tokens;  // window 0: no limit
};

struct AttentionStepKernels {
  void (*step)(const AttentionStep&, const Member&);
};

}  // namespace braidlm
