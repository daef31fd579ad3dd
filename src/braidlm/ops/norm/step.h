// Norms of one token.
#pragma once

#include "../plan/plan.h"

namespace braidlm {

// An input written down, for operations that read places.
struct Evaluate {
  Input input;
  Offset y;
};

struct NormStepKernels {
  void (*evaluate)(const Evaluate&, const Member&);
};

}  // namespace braidlm
