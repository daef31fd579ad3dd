// One token of a gated convolution, the modal recurrence; a vector holds channels, as in the state of a plan. The
// recurrence of `native.cpp` once more: there a few modes stay in registers while time goes by, and filters are laid
// out for each block of channels; here every state is read and written once, and `x` holds gates and inputs per head.
#include "step.h"

#include "../plan/steps.h"

namespace braidlm::BRAIDLM_LEVEL {
namespace {

// Channels that a thread takes at least.
constexpr int64_t kGrain = 64;

void step(const ModalStep& op, const Member& me) {
  const int64_t wide = op.channels / op.parts, table = op.modes * op.channels;
  const Range channels = me.share_of(op.channels, kGrain);
  for (int r = 0; r < me.pass.rows; ++r) {
    float* row = me.pass.row(r);
    float* state = state_of<float>(me.pass, op.state, r);
    for (int64_t d = channels.begin; d < channels.end;) {
      const int64_t part = d / wide, end = channels.end < (part + 1) * wide ? channels.end : (part + 1) * wide;
      const float* x = row + op.x + part * 3 * wide - part * wide;  // so that x[d] is channel d's gate
      by_vectors({d, end}, [&](int64_t i, int active) {
        const Floats u = at(x + wide + i, active) * at(x + 2 * wide + i, active);
        Floats y = at(op.d + i, active) * u;
        for (int64_t m = 0; m < op.modes; ++m) {
          const int64_t k = m * op.channels + i;
          const Floats re = at(state + k, active), im = at(state + table + k, active);
          const Floats pole_re = at(op.poles + k, active), pole_im = at(op.poles + table + k, active);
          const Floats next_re = pole_re * re - pole_im * im + u, next_im = pole_re * im + pole_im * re;
          put(state + k, active, next_re);
          put(state + table + k, active, next_im);
          y += at(op.residues + k, active) * next_re - at(op.residues + table + k, active) * next_im;
        }
        put(row + op.y + i, active, at(x + i, active) * y);
      });
      d = end;
    }
  }
}

}  // namespace

extern const GatedConvStepKernels gated_conv_step;
const GatedConvStepKernels gated_conv_step = {step};

}  // namespace braidlm::BRAIDLM_LEVEL
