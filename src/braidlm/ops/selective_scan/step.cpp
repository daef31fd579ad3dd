// One token of a selective scan, from projections to gated channels; a vector holds channels, as in the state of a
// plan. The recurrence of `native.cpp` once more: there a few states stay in registers while time goes by, from tiles
// that time steps and inputs were laid out in; here every state is read and written once, and laying out would cost
// more.
#include "step.h"

#include <cmath>

#include "../plan/steps.h"

namespace braidlm::BRAIDLM_LEVEL {
namespace {

// Channels that a thread takes at least.
constexpr int64_t kGrain = 64;

// rms_norm(x) weight of a short vector.
void small_norm(const ScanStep& op, const float* x, const float* weight, float* y) {
  float squares = 0;
  for (int64_t n = 0; n < op.states; ++n) squares += x[n] * x[n];
  const float mean = squares / float(op.states);
  const float scale = op.eps_outside_root ? 1 / (std::sqrt(mean) + op.eps) : 1 / std::sqrt(mean + op.eps);
  for (int64_t n = 0; n < op.states; ++n) y[n] = x[n] * scale * weight[n];
}

void step(const ScanStep& op, const Member& me) {
  const Range channels = me.share_of(op.channels, kGrain);
  float b_normed[256], c_normed[256];
  for (int r = 0; r < me.pass.rows; ++r) {
    float* row = me.pass.row(r);
    float* state = state_of<float>(me.pass, op.state, r);
    const float *b = row + op.b, *c = row + op.c;
    if (op.b_norm) {
      small_norm(op, b, op.b_norm, b_normed);
      small_norm(op, c, op.c_norm, c_normed);
      b = b_normed;
      c = c_normed;
    }
    by_vectors(channels, [&](int64_t e, int active) {
      const Floats x = at(row + op.x + e, active);
      const Floats dt = softplus(at(row + op.dt + e, active) + at(op.dt_bias + e, active));
      const Floats added = dt * x;
      Floats y = at(op.d + e, active) * x;
      for (int64_t n = 0; n < op.states; ++n) {
        float* h = state + n * op.channels + e;
        const Floats next = exp(dt * at(op.a + n * op.channels + e, active)) * at(h, active) + added * b[n];
        put(h, active, next);
        y += next * c[n];
      }
      put(row + op.y + e, active, y * silu(at(row + op.z + e, active)));
    });
  }
}

}  // namespace

extern const SelectiveScanStepKernels selective_scan_step;
const SelectiveScanStepKernels selective_scan_step = {step};

}  // namespace braidlm::BRAIDLM_LEVEL
