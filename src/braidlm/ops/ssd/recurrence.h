// The recurrence of one head and one token, in decoding and in short rows. Per level.
#pragma once

#include "../csrc/by_vectors.h"

namespace braidlm::BRAIDLM_LEVEL {

// State h [head_dim, states] becomes decay h + dt x b^T; y = h c + d x. A vector holds states.
inline void advance_head(int64_t head_dim, int64_t states, float decay, float dt, const float* x, const float* b,
                         const float* c, float d, float* h, float* y) {
  for (int64_t p = 0; p < head_dim; ++p, h += states) {
    const float added = dt * x[p];
    Floats dot = {};
    by_vectors(0, states, [&](int64_t n, int active) {
      const Floats next = at(h + n, active) * decay + at(b + n, active) * added;
      put(h + n, active, next);
      dot += next * at(c + n, active);
    });
    y[p] = sum(dot) + d * x[p];
  }
}

}  // namespace braidlm::BRAIDLM_LEVEL
