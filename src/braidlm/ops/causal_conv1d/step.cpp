// One token of a short convolution: its tail lies in the state, moved on in place. `native.cpp` reads a row's inputs
// where they are and keeps them in registers, which one token leaves nothing to gain from.
#include "step.h"

#include "../plan/steps.h"

namespace braidlm::BRAIDLM_LEVEL {
namespace {

// Channels that a thread takes at least.
constexpr int64_t kGrain = 64;

template <class T>
void convolve(const ConvStep& op, const Pass& pass, int b, Range channels, T* tail) {
  const float* x = pass.row(b) + op.x;
  float* y = pass.row(b) + op.y;
  by_vectors(channels, [&](int64_t c, int active) {
    const Floats newest = at(x + c, active);
    Floats total = op.bias ? at(op.bias + c, active) : Floats{};
    for (int64_t tap = 0; tap + 1 < op.taps; ++tap)
      total += at(op.weight + tap * op.channels + c, active) * at(tail + tap * op.channels + c, active);
    total += at(op.weight + (op.taps - 1) * op.channels + c, active) * newest;
    for (int64_t tap = 0; tap + 2 < op.taps; ++tap)
      put(tail + tap * op.channels + c, active, at(tail + (tap + 1) * op.channels + c, active));
    if (op.taps > 1) put(tail + (op.taps - 2) * op.channels + c, active, newest);
    put(y + c, active, op.silu ? silu(total) : total);
  });
}

void step(const ConvStep& op, const Member& me) {
  const Range channels = me.share_of(op.channels, kGrain);
  for (int b = 0; b < me.pass.rows; ++b) {
    if (me.pass.states[op.state].dtype == Dtype::kFloat)
      convolve(op, me.pass, b, channels, state_of<float>(me.pass, op.state, b));
    else
      convolve(op, me.pass, b, channels, state_of<BFloat16>(me.pass, op.state, b));
  }
}

}  // namespace

extern const CausalConv1dStepKernels causal_conv1d_step;
const CausalConv1dStepKernels causal_conv1d_step = {step};

}  // namespace braidlm::BRAIDLM_LEVEL
