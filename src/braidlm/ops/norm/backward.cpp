// Gradients of the norms. With s the scale of a row (or of a group of it) and g = weight * dy,
//   dx = s g + (g . x) ds/dx,    ds/dx = -s^3 x / D, or -s^2 x / (D root) with eps outside the root.
#include <cmath>

#include "../csrc/exp2.h"
#include "../csrc/by_vectors.h"
#include "../csrc/staging.h"
#include "native.h"

namespace braidlm::BRAIDLM_LEVEL {
namespace {

int64_t rows_end(int64_t piece, int64_t rows) {
  const int64_t end = (piece + 1) * kNormRows;
  return end < rows ? end : rows;
}

template <class X, class Y>
void plain_row(const RmsNorm& op, const X* x, const Y* dy, X* dx, float* dweight) {
  Floats squares = {}, dots = {};
  by_vectors(0, op.width, [&](int64_t i, int active) {
    const Floats v = at(x + i, active);
    squares += v * v;
    dots += v * at(dy + i, active) * at(op.weight + i, active);
  });
  const float size = float(op.width), mean = sum(squares) / size, root = std::sqrt(mean);
  const float scale = op.eps_outside_root ? 1 / (root + op.eps) : 1 / std::sqrt(mean + op.eps);
  // At zero the root has no derivative; zero is one of its slopes there, and what autograd takes.
  const float slope = op.eps_outside_root ? (root > 0 ? scale * scale / root : 0) : scale * scale * scale;
  const float back = sum(dots) / size * slope;
  by_vectors(0, op.width, [&](int64_t i, int active) {
    const Floats v = at(x + i, active), scaled = at(dy + i, active) * scale;
    put(dx + i, active, scaled * at(op.weight + i, active) - v * back);
    put(dweight + i, active, at(dweight + i, active) + scaled * v);
  });
}

void rms_norm(const RmsNorm& op, const RmsNormGradients& grad, int64_t begin, int64_t end) {
  for (int64_t piece = begin; piece < end; ++piece) {
    float* const dweight = grad.dweight + piece * op.width;
    std::memset(dweight, 0, op.width * sizeof(float));
    for (int64_t r = piece * kNormRows; r < rows_end(piece, op.rows); ++r)
      with_row(op.x, r, [&](const auto* x) {
        with_row(grad.dy, r, [&](const auto* dy) {
          using X = std::remove_cvref_t<decltype(*x)>;
          plain_row(op, x, dy, static_cast<X*>(grad.dx.data) + r * grad.dx.stride, dweight);
        });
      });
  }
}

int64_t scratch(const GatedRmsNorm& op) { return 2 * padded(op.width / op.groups, kSimdWidth); }

// `gated` and `slopes` keep y * silu(gate) and sigmoid(gate) of one group.
template <class Y, class G, class Out>
void gated_row(const GatedRmsNorm& op, const Y* y, const G* gate, const Out* dout, Y* dy, G* dgate, float* dweight,
               float* gated) {
  const int64_t part = op.width / op.groups;
  float* const slopes = gated + padded(part, kSimdWidth);
  for (int64_t first = 0; first < op.width; first += part) {
    Floats squares = {}, dots = {};
    by_vectors(0, part, [&](int64_t i, int active) {
      const Floats g = at(gate + first + i, active), slope = sigmoid(g), v = at(y + first + i, active) * (g * slope);
      store(gated + i, v);
      store(slopes + i, slope);
      squares += v * v;
      dots += v * at(dout + first + i, active) * at(op.weight + first + i, active);
    });
    const float scale = 1 / std::sqrt(sum(squares) / float(part) + op.eps);
    const float back = sum(dots) / float(part) * scale * scale * scale;
    by_vectors(0, part, [&](int64_t i, int active) {
      const Floats g = at(gate + first + i, active), slope = load(slopes + i), v = load(gated + i);
      const Floats scaled = at(dout + first + i, active) * scale;
      const Floats dv = scaled * at(op.weight + first + i, active) - v * back;
      put(dgate + first + i, active, dv * at(y + first + i, active) * slope * (1.0f + g * (1.0f - slope)));
      put(dy + first + i, active, dv * (g * slope));
      put(dweight + first + i, active, at(dweight + first + i, active) + scaled * v);
    });
  }
}

void gated_rms_norm(const GatedRmsNorm& op, const GatedRmsNormGradients& grad, int64_t begin, int64_t end,
                    float* memory) {
  for (int64_t piece = begin; piece < end; ++piece) {
    float* const dweight = grad.dweight + piece * op.width;
    std::memset(dweight, 0, op.width * sizeof(float));
    for (int64_t r = piece * kNormRows; r < rows_end(piece, op.rows); ++r)
      with_row(op.y, r, [&](const auto* y) {
        with_row(op.gate, r, [&](const auto* gate) {
          using Y = std::remove_cvref_t<decltype(*y)>;
          using G = std::remove_cvref_t<decltype(*gate)>;
          Y* const dy = static_cast<Y*>(grad.dy.data) + r * grad.dy.stride;
          G* const dgate = static_cast<G*>(grad.dgate.data) + r * grad.dgate.stride;
          with_row(grad.dout, r, [&](const auto* dout) { gated_row(op, y, gate, dout, dy, dgate, dweight, memory); });
        });
      });
  }
}

}  // namespace

extern const NormBackwardKernels norm_backward;
const NormBackwardKernels norm_backward = {rms_norm, gated_rms_norm, scratch};

}  // namespace braidlm::BRAIDLM_LEVEL
