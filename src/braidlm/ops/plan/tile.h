// Dot products of O outputs with R rows, for weights that are stored as they are multiplied.
//
// Each dot product has one accumulator and takes its terms in the order of memory, so it does not
// depend on what is computed beside it.
#pragma once

#include "operand.h"

namespace braidlm::BRAIDLM_LEVEL {

// Weights as floats: a vector of them from position k of a row.
struct FloatWeights {
  const float* row;
  Floats at(int64_t k) const { return load(row + k); }
  Floats part(int64_t k, int count) const { return load_part(row + k, count); }
};

struct BFloat16Weights {
  const BFloat16* row;
  Floats at(int64_t k) const { return load(row + k); }
  Floats part(int64_t k, int count) const { return load_part(row + k, count); }
};

struct Fp8Weights {
  const uint8_t* row;
  Floats at(int64_t k) const { return load_e4m3(row + k); }
  Floats part(int64_t k, int count) const { return load_e4m3_part(row + k, count); }
};

// The sums of accumulators, row r's from values + r * kOutputs on.
template <int O, int R>
inline void add_up(const Floats (&sums)[O][R], float* values) {
  unrolled<R>([&](auto r) {
    if constexpr (O == 4)
      sum_four(sums[0][r], sums[1][r], sums[2][r], sums[3][r], values + r * kOutputs);
    else
      unrolled<O>([&](auto o) { values[r * kOutputs + o] = sum(sums[o][r]); });
  });
}

template <int O, int R, class Weights>
inline void float_tile(const Weights (&w)[O], const float* x, int64_t stride, int64_t width, float* values) {
  Floats sums[O][R] = {};
  const auto step = [&](int64_t k, auto weights) __attribute__((always_inline)) {
    unrolled<O>([&](auto o) __attribute__((always_inline)) {
      const Floats weight = weights(w[o]);
      unrolled<R>([&](auto r) __attribute__((always_inline)) {
        sums[o][r] = fma(weight, load(x + r * stride + k), sums[o][r]);
      });
    });
  };
  int64_t k = 0;
  for (; k + kSimdWidth <= width; k += kSimdWidth) step(k, [k](const Weights& row) { return row.at(k); });
  if (k < width) step(k, [k, width](const Weights& row) { return row.part(k, int(width - k)); });
  add_up<O, R>(sums, values);
}

#if defined(__AVX512BF16__)
template <int O, int R>
inline void bfloat16_tile(const BFloat16* w, const BFloat16* x, int64_t stride, int64_t width, float* values) {
  Floats sums[O][R] = {};
  const auto step = [&](int64_t k, auto load) __attribute__((always_inline)) {
    unrolled<O>([&](auto o) __attribute__((always_inline)) {
      const __m512bh weight = (__m512bh)load(w + o * width + k);
      unrolled<R>([&](auto r) __attribute__((always_inline)) {
        const __m512bh input = (__m512bh)_mm512_loadu_si512(x + r * stride + k);
        sums[o][r] = (Floats)_mm512_dpbf16_ps((__m512)sums[o][r], weight, input);
      });
    });
  };
  int64_t k = 0;
  for (; k + 32 <= width; k += 32) step(k, [](const BFloat16* from) { return _mm512_loadu_si512(from); });
  const __mmask32 rest = (__mmask32(1) << (width - k)) - 1;
  if (rest) step(k, [rest](const BFloat16* from) { return _mm512_maskz_loadu_epi16(rest, from); });
  add_up<O, R>(sums, values);
}
#endif

}  // namespace braidlm::BRAIDLM_LEVEL
