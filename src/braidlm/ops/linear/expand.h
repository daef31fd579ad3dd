// Rows of weights as the numbers that they stand for. Per level.
#pragma once

#include "../csrc/vec.h"
#include "matrix.h"

namespace braidlm::BRAIDLM_LEVEL {

// Signed bytes: their sign bits are carried up by shifting left and back.
inline Floats widen_signed(const uint8_t* from) {
  return __builtin_convertvector(bits_as<Ints>(widen(from)) << 24 >> 24, Floats);
}

template <class Out>
inline void expand_int8(const Matrix& w, int64_t group, Out* y) {
  const float scale = to_float(static_cast<const Half*>(w.scale)[group]);
  const uint8_t* q = static_cast<const uint8_t*>(w.data) + group * kGroup;
  for (int64_t i = 0; i < kGroup; i += kLanes) store(y + i, widen_signed(q + i) * scale);
}

// A product of four bits and a half is exact, so that it does not matter whether the sum is fused with it.
template <class Out>
inline void expand_int4(const Matrix& w, int64_t group, Out* y) {
  const float scale = to_float(static_cast<const Half*>(w.scale)[group]);
  const float low = w.low ? to_float(w.low[group]) : -8 * scale;
  const uint8_t* q = static_cast<const uint8_t*>(w.data) + group * kGroup / 2;
  for (int64_t i = 0; i < kGroup / 2; i += kLanes) {
    const Words bytes = widen(q + i);
    const Floats first = __builtin_convertvector(bits_as<Ints>(bytes & 15u), Floats);
    const Floats second = __builtin_convertvector(bits_as<Ints>(bytes >> 4), Floats);
    store(y + i, first * scale + low);
    store(y + i + kGroup / 2, second * scale + low);
  }
}

// body(i, lanes) writes what `from(i, lanes)` gives, over vectors of a row.
template <class Out, class From>
inline void expand_plain(int64_t width, Out* y, From from) {
  int64_t i = 0;
  for (; i + kLanes <= width; i += kLanes) store(y + i, from(i, kLanes));
  if (i < width) store_part(y + i, from(i, int(width - i)), int(width - i));
}

template <class T>
inline Floats some(const T* from, int lanes) {
  return lanes == kLanes ? load(from) : load_part(from, lanes);
}

inline Floats some_e4m3(const uint8_t* from, int lanes) {
  if (lanes == kLanes) return widen_e4m3(widen(from));
  uint8_t bytes[kLanes] = {};
  std::memcpy(bytes, from, lanes);
  return widen_e4m3(widen(bytes));
}

template <class Out>
inline void expand_row(const Matrix& w, int64_t row, Out* y) {
  const int64_t width = w.inputs, begin = row * width, groups = width / kGroup;
  switch (w.form) {
    case Form::kFloat: {
      const float* from = static_cast<const float*>(w.data) + begin;
      return expand_plain(width, y, [from](int64_t i, int lanes) { return some(from + i, lanes); });
    }
    case Form::kBFloat16: {
      const BFloat16* from = static_cast<const BFloat16*>(w.data) + begin;
      return expand_plain(width, y, [from](int64_t i, int lanes) { return some(from + i, lanes); });
    }
    case Form::kFp8: {
      const uint8_t* from = static_cast<const uint8_t*>(w.data) + begin;
      const float scale = static_cast<const float*>(w.scale)[row];
      return expand_plain(width, y, [=](int64_t i, int lanes) { return some_e4m3(from + i, lanes) * scale; });
    }
    case Form::kInt8:
      for (int64_t g = 0; g < groups; ++g) expand_int8(w, row * groups + g, y + g * kGroup);
      return;
    case Form::kInt4:
      for (int64_t g = 0; g < groups; ++g) expand_int4(w, row * groups + g, y + g * kGroup);
      return;
  }
}

}  // namespace braidlm::BRAIDLM_LEVEL
