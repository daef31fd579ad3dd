// Rows of weights as the numbers that they stand for. Per level.
#pragma once

#include "../csrc/by_vectors.h"
#include "matrix.h"

namespace braidlm::BRAIDLM_LEVEL {

template <class Out>
inline void expand_int8(const Matrix& w, int64_t group, Out* y) {
  const float scale = to_float(static_cast<const Half*>(w.scale)[group]);
  const uint8_t* q = static_cast<const uint8_t*>(w.data) + group * kGroup;
  for (int64_t i = 0; i < kGroup; i += kSimdWidth) store(y + i, widen_signed(q + i) * scale);
}

// A product of four bits and a half is exact, so that it does not matter whether the sum is fused with it.
template <class Out>
inline void expand_int4(const Matrix& w, int64_t group, Out* y) {
  const float scale = to_float(static_cast<const Half*>(w.scale)[group]);
  const float low = w.low ? to_float(w.low[group]) : -8 * scale;
  const uint8_t* q = static_cast<const uint8_t*>(w.data) + group * kGroup / 2;
  for (int64_t i = 0; i < kGroup / 2; i += kSimdWidth) {
    const Words bytes = widen(q + i);
    const Floats first = __builtin_convertvector(bits_as<Ints>(bytes & 15u), Floats);
    const Floats second = __builtin_convertvector(bits_as<Ints>(bytes >> 4), Floats);
    store(y + i, first * scale + low);
    store(y + i + kGroup / 2, second * scale + low);
  }
}

// Inputs [from, to) of a row; of int8 and int4, whole groups.
template <class Out>
inline void expand_part(const Matrix& w, int64_t row, int64_t from, int64_t to, Out* y) {
  const int64_t begin = row * w.inputs + from, count = to - from;
  switch (w.format) {
    case WeightFormat::kFloat: {
      const float* x = static_cast<const float*>(w.data) + begin;
      return by_vectors(0, count, [=](int64_t i, int active) { put(y + i, active, at(x + i, active)); });
    }
    case WeightFormat::kBFloat16: {
      const BFloat16* x = static_cast<const BFloat16*>(w.data) + begin;
      return by_vectors(0, count, [=](int64_t i, int active) { put(y + i, active, at(x + i, active)); });
    }
    case WeightFormat::kFp8: {
      const uint8_t* x = static_cast<const uint8_t*>(w.data) + begin;
      const float scale = static_cast<const float*>(w.scale)[row];
      return by_vectors(0, count, [=](int64_t i, int active) {
        put(y + i, active, (active == kSimdWidth ? load_e4m3(x + i) : load_e4m3_part(x + i, active)) * scale);
      });
    }
    case WeightFormat::kInt8:
      for (int64_t g = 0; g < count / kGroup; ++g) expand_int8(w, begin / kGroup + g, y + g * kGroup);
      return;
    case WeightFormat::kInt4:
      for (int64_t g = 0; g < count / kGroup; ++g) expand_int4(w, begin / kGroup + g, y + g * kGroup);
      return;
  }
}

template <class Out>
inline void expand_row(const Matrix& w, int64_t row, Out* y) {
  expand_part(w, row, 0, w.inputs, y);
}

}  // namespace braidlm::BRAIDLM_LEVEL
