// What decode steps share: parts of a row, and where its states and results are. Per level.
#pragma once

#include "../csrc/by_vectors.h"
#include "plan.h"

namespace braidlm::BRAIDLM_LEVEL {

// A row's state of an operation.
template <class T>
inline T* state_of(const Pass& pass, int state, int b) {
  return static_cast<T*>(pass.states[state].base) + pass.slots[b] * pass.states[state].stride;
}

// Writes values of a product from output `o` on where they belong.
inline void emit(const Output& output, const Pass& pass, int b, int64_t o, int active, Floats values) {
  switch (output.kind) {
    case Output::Kind::kStore:
      store_part(pass.row(b) + output.y + o, values * output.scale, active);
      break;
    case Output::Kind::kAdd: {
      float* y = pass.row(b) + output.y + o;
      store_part(y, fma(values, broadcast(output.scale), load_part(y, active)), active);
      break;
    }
    case Output::Kind::kLogits:
      store_part(pass.logits + b * pass.vocab + o, values * output.scale, active);
      break;
  }
}

// body(first, active) over vectors of a range, the last one perhaps cut short. One piece of code for
// both, since where a range is cut depends on the number of threads and no number may.
template <class Body>
inline void by_vectors(Range range, Body body) {
  for (int64_t i = range.begin; i < range.end; i += kSimdWidth)
    body(i, int(range.end - i < kSimdWidth ? range.end - i : kSimdWidth));
}

}  // namespace braidlm::BRAIDLM_LEVEL
