#include "tile.h"

#include "integer_tile.h"

namespace braidlm::BRAIDLM_LEVEL {
namespace {

template <class Weights, class T, int O, int R>
void floats(const T* data, const Matrix& w, const Operand& x, int64_t first, int r0, float (*values)[4]) {
  Weights rows[O];
  for (int o = 0; o < O; ++o) rows[o].row = data + (first + o) * w.inputs;
  float_tile<O, R>(rows, x.floats + r0 * x.stride, x.stride, w.inputs, values);
}

template <int O, int R>
void sized(const Matrix& w, const Operand& x, int64_t first, int r0, float (*values)[4]) {
  switch (w.form) {
    case Form::kFloat:
      return floats<FloatWeights, float, O, R>(static_cast<const float*>(w.data), w, x, first, r0, values);
    case Form::kBFloat16: {
      const auto* data = static_cast<const BFloat16*>(w.data);
#if defined(__AVX512BF16__)
      return bfloat16_tile<O, R>(data + first * w.inputs, x.bfloats + r0 * x.stride, x.stride, w.inputs, values);
#else
      return floats<BFloat16Weights, BFloat16, O, R>(data, w, x, first, r0, values);
#endif
    }
    case Form::kFp8: {
      floats<Fp8Weights, uint8_t, O, R>(static_cast<const uint8_t*>(w.data), w, x, first, r0, values);
      const float* scale = static_cast<const float*>(w.scale) + first;
      for (int o = 0; o < O; ++o)
        for (int r = 0; r < R; ++r) values[o][r] *= scale[o];
      return;
    }
    case Form::kInt8:
      return integer_tile<false, O, R>(w, x, first, r0, values);
    case Form::kInt4:
      return integer_tile<true, O, R>(w, x, first, r0, values);
  }
}

template <int O>
void high(const Matrix& w, const Operand& x, int64_t first, int r0, int rows, float (*values)[4]) {
  switch (rows) {
    case 1:
      return sized<O, 1>(w, x, first, r0, values);
    case 2:
      return sized<O, 2>(w, x, first, r0, values);
    case 3:
      return sized<O, 3>(w, x, first, r0, values);
    default:
      return sized<O, 4>(w, x, first, r0, values);
  }
}

}  // namespace

void tile(const Matrix& weight, const Operand& x, int64_t o, int outputs, int r, int rows, float (*values)[4]) {
  if (outputs == 4 && x.rows > 4) return high<4>(weight, x, o, r, rows, values);
  for (int i = 0; i < outputs; ++i) high<1>(weight, x, o + i, r, rows, values + i);
}

}  // namespace braidlm::BRAIDLM_LEVEL
