#include "native.h"

#include <cmath>

#include "../csrc/exp2.h"
#include "../csrc/by_vectors.h"
#include "../csrc/staging.h"

namespace braidlm::BRAIDLM_LEVEL {
namespace {

void rms_norm(const RmsNorm& op, int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; ++r) {
    with_row(op.x, r, [&](const auto* x) {
      Floats squares = {};
      by_vectors(0, op.width, [&](int64_t i, int active) {
        const Floats v = at(x + i, active);
        squares += v * v;
      });
      const float mean = sum(squares) / float(op.width);
      const float scale = op.eps_outside_root ? 1 / (std::sqrt(mean) + op.eps) : 1 / std::sqrt(mean + op.eps);
      with_row(op.out, r, [&](auto* out) {
        by_vectors(0, op.width, [&](int64_t i, int active) {
          put(out + i, active, at(x + i, active) * scale * at(op.weight + i, active));
        });
      });
    });
  }
}

int64_t scratch(const GatedRmsNorm& op) { return padded(op.width / op.groups, kSimdWidth); }

// `gated` keeps y * silu(gate) of one group until the group's scale is known.
template <class Y, class G, class Out>
void gated_row(const GatedRmsNorm& op, const Y* y, const G* gate, Out* out, float* gated) {
  const int64_t part = op.width / op.groups;
  for (int64_t first = 0; first < op.width; first += part) {
    Floats squares = {};
    by_vectors(0, part, [&](int64_t i, int active) {
      const Floats g = at(gate + first + i, active), v = at(y + first + i, active) * (g * sigmoid(g));
      store(gated + i, v);
      squares += v * v;
    });
    const float scale = 1 / std::sqrt(sum(squares) / float(part) + op.eps);
    by_vectors(0, part, [&](int64_t i, int active) {
      put(out + first + i, active, load(gated + i) * scale * at(op.weight + first + i, active));
    });
  }
}

void gated_rms_norm(const GatedRmsNorm& op, int64_t begin, int64_t end, float* gated) {
  for (int64_t r = begin; r < end; ++r)
    with_row(op.y, r, [&](const auto* y) {
      with_row(op.gate, r,
               [&](const auto* gate) { with_row(op.out, r, [&](auto* out) { gated_row(op, y, gate, out, gated); }); });
    });
}

}  // namespace

extern const NormNativeKernels norm_native;
const NormNativeKernels norm_native = {rms_norm, gated_rms_norm, scratch};

}  // namespace braidlm::BRAIDLM_LEVEL
