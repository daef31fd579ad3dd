#include "native.h"

#include <cmath>

#include "../csrc/vec.h"

namespace braidlm::BRAIDLM_LEVEL {
namespace {

// Calls body(first lane, lanes) for each vector of [0, width), the last one perhaps cut short.
template <class Body>
inline void by_vectors(int64_t width, Body body) {
  int64_t i = 0;
  for (; i + kLanes <= width; i += kLanes) body(i, kLanes);
  if (i < width) body(i, int(width - i));
}

template <class T>
inline Floats at(const T* row, int64_t i, int lanes) {
  return lanes == kLanes ? load(row + i) : load_part(row + i, lanes);
}

template <class T>
inline void put(T* row, int64_t i, int lanes, Floats v) {
  lanes == kLanes ? store(row + i, v) : store_part(row + i, v, lanes);
}

void rms_norm(const RmsNorm& op, int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; ++r) {
    with_row(op.x, r, [&](const auto* x) {
      Floats squares = {};
      by_vectors(op.width, [&](int64_t i, int lanes) {
        const Floats v = at(x, i, lanes);
        squares += v * v;
      });
      const float mean = sum(squares) / float(op.width);
      const float scale = op.eps_outside_root ? 1 / (std::sqrt(mean) + op.eps) : 1 / std::sqrt(mean + op.eps);
      with_row(op.out, r, [&](auto* out) {
        by_vectors(op.width, [&](int64_t i, int lanes) {
          put(out, i, lanes, at(x, i, lanes) * scale * at(op.weight, i, lanes));
        });
      });
    });
  }
}

template <class Y, class G, class Out>
void gated_row(const GatedRmsNorm& op, const Y* y, const G* gate, Out* out) {
  const int64_t part = op.width / op.groups;
  for (int64_t first = 0; first < op.width; first += part) {
    Floats squares = {};
    by_vectors(part, [&](int64_t i, int lanes) {
      const Floats v = at(y, first + i, lanes) * silu(at(gate, first + i, lanes));
      squares += v * v;
    });
    const float scale = 1 / std::sqrt(sum(squares) / float(part) + op.eps);
    by_vectors(part, [&](int64_t i, int lanes) {
      const Floats v = at(y, first + i, lanes) * silu(at(gate, first + i, lanes));
      put(out, first + i, lanes, v * scale * at(op.weight, first + i, lanes));
    });
  }
}

void gated_rms_norm(const GatedRmsNorm& op, int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; ++r)
    with_row(op.y, r, [&](const auto* y) {
      with_row(op.gate, r,
               [&](const auto* gate) { with_row(op.out, r, [&](auto* out) { gated_row(op, y, gate, out); }); });
    });
}

}  // namespace

extern const NormKernels norm_kernels;
const NormKernels norm_kernels = {rms_norm, gated_rms_norm};

}  // namespace braidlm::BRAIDLM_LEVEL
