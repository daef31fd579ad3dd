#include "tile.h"

#include "integer_tile.h"

namespace braidlm::BRAIDLM_LEVEL {
namespace {

template <class Weights, class T, int O, int R>
inline void floats(const Matrix& w, const Operand& x, int64_t first, int r0, float (*values)[4]) {
  const T* data = static_cast<const T*>(w.data);
  Weights rows[O];
  for (int o = 0; o < O; ++o) rows[o].row = data + (first + o) * w.inputs;
  float_tile<O, R>(rows, x.floats + r0 * x.stride, x.stride, w.inputs, values);
}

template <int O, int R>
inline void bfloats(const Matrix& w, const Operand& x, int64_t first, int r0, float (*values)[4]) {
#if defined(__AVX512BF16__)
  const auto* data = static_cast<const BFloat16*>(w.data) + first * w.inputs;
  bfloat16_tile<O, R>(data, x.bfloats + r0 * x.stride, x.stride, w.inputs, values);
#else
  floats<BFloat16Weights, BFloat16, O, R>(w, x, first, r0, values);
#endif
}

template <int O, int R>
inline void scaled(const Matrix& w, const Operand& x, int64_t first, int r0, float (*values)[4]) {
  floats<Fp8Weights, uint8_t, O, R>(w, x, first, r0, values);
  const float* scale = static_cast<const float*>(w.scale) + first;
  for (int o = 0; o < O; ++o)
    for (int r = 0; r < R; ++r) values[o][r] *= scale[o];
}

// O outputs at a time.
template <int O, int R>
void sized(const Matrix& w, const Operand& x, int64_t first, int outputs, int r, float (*values)[4]) {
  const auto each = [&](auto tile) {
    for (int o = 0; o < outputs; o += O) tile(w, x, first + o, r, values + o);
  };
  switch (w.form) {
    case Form::kFloat: return each(floats<FloatWeights, float, O, R>);
    case Form::kBFloat16: return each(bfloats<O, R>);
    case Form::kFp8: return each(scaled<O, R>);
    case Form::kInt8: return each(integer_tile<false, O, R>);
    case Form::kInt4: return each(integer_tile<true, O, R>);
  }
}

template <int O>
void high(const Matrix& w, const Operand& x, int64_t first, int outputs, int r, int rows, float (*values)[4]) {
  switch (rows) {
    case 1: return sized<O, 1>(w, x, first, outputs, r, values);
    case 2: return sized<O, 2>(w, x, first, outputs, r, values);
    case 3: return sized<O, 3>(w, x, first, outputs, r, values);
    default: return sized<O, 4>(w, x, first, outputs, r, values);
  }
}

}  // namespace

void tile(const Matrix& weight, const Operand& x, int64_t o, int outputs, int r, int rows, float (*values)[4]) {
  if (x.rows > kFewRows && outputs == kManyRowsOutputs) return high<kManyRowsOutputs>(weight, x, o, outputs, r, rows, values);
  high<1>(weight, x, o, outputs, r, rows, values);
}

}  // namespace braidlm::BRAIDLM_LEVEL
