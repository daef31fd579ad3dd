// Chunks of tokens, and how one head's state decays within one. Per level.
#pragma once

#include "../csrc/exp2.h"

namespace braidlm::BRAIDLM_LEVEL {

inline constexpr int64_t kChunk = 64;

struct Decays {
  alignas(64) float step[kChunk];   // of each token
  alignas(64) float start[kChunk];  // from the chunk's start to each token
  alignas(64) float end[kChunk];    // from each token to the chunk's end
  alignas(64) float dt[kChunk];
  float whole;
};

// `dt` are the time steps of `tokens` tokens, `stride` numbers apart; beyond them a chunk has steps of zero.
inline void fill(Decays& decays, const float* dt, int64_t stride, float a, int64_t tokens) {
  const double rate = double(a) * kLog2E;
  // Sums in double: where time steps differ by orders of magnitude, the difference of two sums of
  // floats has lost the small ones.
  double sums[kChunk], sum = 0;
  for (int64_t t = 0; t < tokens; ++t) {
    decays.dt[t] = dt[t * stride];
    decays.step[t] = float(decays.dt[t] * rate);
    sum += decays.dt[t] * rate;
    sums[t] = sum;
    decays.start[t] = float(sum);
  }
  for (int64_t t = 0; t < tokens; ++t) decays.end[t] = float(sum - sums[t]);
  for (int64_t t = tokens; t < kChunk; ++t) decays.dt[t] = decays.step[t] = decays.start[t] = decays.end[t] = 0;
  for (int64_t t = 0; t < kChunk; t += kSimdWidth)
    for (float* of : {decays.step, decays.start, decays.end}) store(of + t, exp2(load(of + t)));
  decays.whole = exp2(float(sum));
}

// From here on `end` says what a token's input adds to the chunk's last state: the decay times its time step.
inline void weigh_end(Decays& decays) {
  for (int64_t t = 0; t < kChunk; t += kSimdWidth) store(decays.end + t, load(decays.end + t) * load(decays.dt + t));
}

}  // namespace braidlm::BRAIDLM_LEVEL
