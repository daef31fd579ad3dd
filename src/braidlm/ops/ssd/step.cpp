// One token of state-space duality, from projections to heads. Over many tokens `native.cpp` computes the
// same in matrix products of chunks, which one token has no use for.
#include "step.h"

#include "../plan/steps.h"
#include "recurrence.h"

namespace braidlm::BRAIDLM_LEVEL {
namespace {

void head_step(const SsdStep& op, const float* row, int64_t head, float* state, float* y) {
  const int64_t group = head / (op.heads / op.groups), width = op.states;
  const float raw = softplus(row[op.dt + head] + op.dt_bias[head]);
  const float dt = raw < op.dt_min ? op.dt_min : raw > op.dt_max ? op.dt_max : raw;
  advance_head(op.head_dim, width, exp(dt * op.a[head]), dt, row + op.x + head * op.head_dim,
               row + op.b + group * width, row + op.c + group * width, op.d[head], state, y);
}

void step(const SsdStep& op, const Member& me) {
  const Range items = me.share_of(me.pass.sequences * op.heads, 1);
  for (int64_t item = items.begin; item < items.end; ++item) {
    const int sequence = int(item / op.heads);
    const int64_t head = item % op.heads;
    for (int r = me.pass.first_rows[sequence]; r < me.pass.first_rows[sequence + 1]; ++r) {
      float* row = me.pass.row(r);
      float* state = state_of<float>(me.pass, op.state, r) + head * op.head_dim * op.states;
      head_step(op, row, head, state, row + op.y + head * op.head_dim);
    }
  }
}

}  // namespace

extern const SsdStepKernels ssd_step;
const SsdStepKernels ssd_step = {step};

}  // namespace braidlm::BRAIDLM_LEVEL
