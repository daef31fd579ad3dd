// Dot products with int8 and int4 weights: exact sums of whole numbers within each group, one scale a group.
#pragma once

#include "../csrc/by_vectors.h"
#include "tile.h"

namespace braidlm::BRAIDLM_LEVEL {

// The rows of an int8 or int4 matrix that a tile takes.
struct Quantized {
  const uint8_t* data;
  const Half *scale, *low;
  int64_t bytes, groups;  // of a row
};

template <bool kFour>
inline Quantized quantized(const Matrix& w, int64_t o) {
  const int64_t groups = w.inputs / kGroup, bytes = kFour ? w.inputs / 2 : w.inputs;
  return {static_cast<const uint8_t*>(w.data) + o * bytes, static_cast<const Half*>(w.scale) + o * groups,
          w.low ? w.low + o * groups : nullptr, bytes, groups};
}

#if defined(__AVX512VNNI__)

// Products of unsigned weights (q + 128, or the four bits as they are) with signed bytes. What the
// unsigned reading adds is taken away with the group sums of the inputs, as is int4's lowest value.
template <bool kFour, int O, int R>
inline void integer_tile(const Matrix& weight, const Operand& x, int64_t first, int r0, float* values) {
  constexpr int kStep = kFour ? 128 : 64;           // weights in 64 bytes
  constexpr int kStepGroups = kStep / int(kGroup);  // 4 or 2 groups, in as many equal parts of a vector
  const Quantized w = quantized<kFour>(weight, first);
  const int8_t* high = x.high + r0 * x.stride;
  const int8_t* low = x.low + r0 * x.stride;
  const float* sums = x.sums + r0 * x.stride / kGroup;
  const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512i part = _mm512_srli_epi32(lane, kFour ? 2 : 3);
  const __m512i nibble = _mm512_set1_epi8(15), top = _mm512_set1_epi8(char(128));
  Floats dots[O][R] = {}, shifts[O][R] = {};
  // 64 bytes of each row, `step` steps after group g, of which `mask` are there.
  const auto add = [&](int64_t g, int step, __mmask64 mask, const Floats(&scale)[O]) __attribute__((always_inline)) {
    const int64_t k = (g + step * kStepGroups) * kGroup, byte = kFour ? k / 2 : k;
    const __m512i index = _mm512_add_epi32(part, _mm512_set1_epi32(step * kStepGroups));
    unrolled<O>([&](auto o) __attribute__((always_inline)) {
      const __m512i bytes = _mm512_maskz_loadu_epi8(mask, w.data + o * w.bytes + byte);
      const __m512i one = kFour ? _mm512_and_si512(bytes, nibble) : _mm512_xor_si512(bytes, top);
      const __m512i two = _mm512_and_si512(_mm512_srli_epi16(bytes, 4), nibble);
      const Floats scales = (Floats)_mm512_permutexvar_ps(index, (__m512)scale[o]);
      unrolled<R>([&](auto r) __attribute__((always_inline)) {
        const int8_t *h = high + r * x.stride + k, *l = low + r * x.stride + k;
        __m512i dot = _mm512_dpbusd_epi32(_mm512_setzero_si512(), one, _mm512_loadu_si512(h));
        if (kFour) dot = _mm512_dpbusd_epi32(dot, two, _mm512_loadu_si512(h + 64));
        dot = _mm512_slli_epi32(dot, 8);
        dot = _mm512_dpbusd_epi32(dot, one, _mm512_loadu_si512(l));
        if (kFour) dot = _mm512_dpbusd_epi32(dot, two, _mm512_loadu_si512(l + 64));
        dots[o][r] = fma((Floats)_mm512_cvtepi32_ps(dot), scales, dots[o][r]);
      });
    });
  };
  for (int64_t g = 0; g < w.groups; g += 16) {
    const int count = int(w.groups - g < 16 ? w.groups - g : 16);
    Floats scale[O];
    unrolled<O>([&](auto o) __attribute__((always_inline)) {
      const int64_t row = o * w.groups + g;
      scale[o] = load_part(w.scale + row, count);
      const Floats shift = kFour && w.low ? load_part(w.low + row, count) : scale[o] * (kFour ? -8.0f : -128.0f);
      unrolled<R>([&](auto r) __attribute__((always_inline)) {
        shifts[o][r] = fma(shift, load_part(sums + r * x.stride / kGroup + g, count), shifts[o][r]);
      });
    });
    constexpr int kSteps = 16 / kStepGroups;
    if (count == 16) {
      unrolled<kSteps>([&](auto step) __attribute__((always_inline)) { add(g, step, ~__mmask64(0), scale); });
      continue;
    }
    for (int step = 0; step * kStepGroups < count; ++step) {
      const int groups = count - step * kStepGroups, bytes = groups * int(kFour ? kGroup / 2 : kGroup);
      add(g, step, bytes >= 64 ? ~__mmask64(0) : (__mmask64(1) << bytes) - 1, scale);
    }
  }
  unrolled<O>([&](auto o) {
    unrolled<R>([&](auto r) { dots[o][r] = fma(broadcast(x.scales[r0 + r]), dots[o][r], shifts[o][r]); });
  });
  add_up<O, R>(dots, values);
}

#elif defined(__AVX2__)

// A group's weights as numbers of 16 bits, int4's from 0 to 15, and their products with inputs: sums of neighbours.
template <bool kFour>
struct Group {
  explicit Group(const uint8_t* weights) {
    const auto bytes = [weights](int i) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(weights) + i); };
    const __m128i nibble = _mm_set1_epi8(15);
    const __m128i one = kFour ? _mm_and_si128(bytes(0), nibble) : bytes(0);
    const __m128i two = kFour ? _mm_and_si128(_mm_srli_epi16(bytes(0), 4), nibble) : bytes(1);
    first = _mm256_cvtepi8_epi16(one), second = _mm256_cvtepi8_epi16(two);
  }
  Ints times(const int16_t* x) const {
#if defined(__AVX512BW__)
    const __m512i both = _mm512_inserti64x4(_mm512_castsi256_si512(first), second, 1);
    return (Ints)_mm512_madd_epi16(both, _mm512_loadu_si512(x));
#else
    const auto* inputs = reinterpret_cast<const __m256i*>(x);
    return (Ints)_mm256_add_epi32(_mm256_madd_epi16(first, _mm256_loadu_si256(inputs)),
                                  _mm256_madd_epi16(second, _mm256_loadu_si256(inputs + 1)));
#endif
  }
  __m256i first, second;
};

// A lane's sum of a group, four products of at most 128 times 32512, is a whole number that a float has exactly.
template <bool kFour, int O, int R>
inline void integer_tile(const Matrix& weight, const Operand& x, int64_t first, int r0, float* values) {
  if constexpr (O > 2) {  // the registers hold the sums of two outputs with four rows
    integer_tile<kFour, 2, R>(weight, x, first, r0, values);
    integer_tile<kFour, O - 2, R>(weight, x, first + 2, r0, values + 2);
  } else {
    constexpr int64_t kBytes = kFour ? kGroup / 2 : kGroup;
    const Quantized w = quantized<kFour>(weight, first);
    const int16_t* shorts = x.shorts + r0 * x.stride;
    const float* sums = x.sums + r0 * x.stride / kGroup;
    Floats dots[O][R] = {}, shifts[O][R] = {};
    for (int64_t g = 0; g < w.groups; g += kSimdWidth) {
      const int count = int(w.groups - g < kSimdWidth ? w.groups - g : kSimdWidth);
      float scales[O][kSimdWidth];
      unrolled<O>([&](auto o) __attribute__((always_inline)) {
        const Floats scale = at(w.scale + o * w.groups + g, count);
        store(scales[o], scale);
        if (!kFour) return;
        const Floats shift = w.low ? at(w.low + o * w.groups + g, count) : -8.0f * scale;
        unrolled<R>([&](auto r) __attribute__((always_inline)) {
          shifts[o][r] = fma(shift, at(sums + r * x.stride / kGroup + g, count), shifts[o][r]);
        });
      });
      const auto add = [&](int j) __attribute__((always_inline)) {
        unrolled<O>([&](auto o) __attribute__((always_inline)) {
          const Group<kFour> weights(w.data + o * w.bytes + (g + j) * kBytes);
          const Floats scale = broadcast(scales[o][j]);
          unrolled<R>([&](auto r) __attribute__((always_inline)) {
            const Ints dot = weights.times(shorts + r * x.stride + (g + j) * kGroup);
            dots[o][r] = fma(__builtin_convertvector(dot, Floats), scale, dots[o][r]);
          });
        });
      };
      if (count == kSimdWidth)
        unrolled<kSimdWidth>(add);
      else
        for (int j = 0; j < count; ++j) add(j);
    }
    unrolled<O>([&](auto o) {
      unrolled<R>([&](auto r) { dots[o][r] = fma(broadcast(x.scales[r0 + r]), dots[o][r], shifts[o][r]); });
    });
    add_up<O, R>(dots, values);
  }
}

#else

// The whole numbers of one group times the inputs, exactly.
template <bool kFour>
inline float group_dot(const uint8_t* weights, const int16_t* x) {
  int32_t dot = 0;
  for (int j = 0; j < 16; ++j) {
    const int one = kFour ? weights[j] & 15 : int8_t(weights[j]);
    const int two = kFour ? weights[j] >> 4 : int8_t(weights[j + 16]);
    dot += one * x[j] + two * x[j + 16];
  }
  return float(dot);
}

template <bool kFour, int O, int R>
inline void integer_tile(const Matrix& weight, const Operand& x, int64_t first, int r0, float* values) {
  const Quantized w = quantized<kFour>(weight, first);
  for (int o = 0; o < O; ++o)
    for (int r = 0; r < R; ++r) {
      const int16_t* inputs = x.shorts + (r0 + r) * x.stride;
      const float* sums = x.sums + (r0 + r) * x.stride / kGroup;
      float dot = 0, shift = 0;
      for (int64_t g = 0; g < w.groups; ++g) {
        const int64_t at = o * w.groups + g;
        const float scale = to_float(w.scale[at]);
        dot = fma(scale, group_dot<kFour>(w.data + o * w.bytes + g * (kFour ? 16 : 32), inputs + g * kGroup), dot);
        if (kFour) shift = fma(w.low ? to_float(w.low[at]) : -8 * scale, sums[g], shift);
      }
      values[r * kOutputs + o] = fma(x.scales[r0 + r], dot, shift);
    }
}

#endif

}  // namespace braidlm::BRAIDLM_LEVEL
