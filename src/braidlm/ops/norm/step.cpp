// Norms of one token, written down; what products read is normed by the product itself (see plan/operand.h).
#include "step.h"

#include "../plan/operand.h"

namespace braidlm::BRAIDLM_LEVEL {
namespace {

void evaluate(const Evaluate& op, const Member& me) {
  const Range rows = me.share_of(me.pass.rows, 1);
  for (int64_t b = rows.begin; b < rows.end; ++b) {
    float* row = me.pass.row(int(b));
    BRAIDLM_LEVEL::evaluate(op.input, row, row + op.y);
  }
}

}  // namespace

extern const NormStepKernels norm_step;
const NormStepKernels norm_step = {evaluate};

}  // namespace braidlm::BRAIDLM_LEVEL
