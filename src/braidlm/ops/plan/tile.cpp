#include "../csrc/prefetch.h"
#include "dots.h"
#include "integer_tile.h"

namespace braidlm::BRAIDLM_LEVEL {
namespace {

template <class Weights, class T, int O, int R>
inline void floats(const Matrix& w, const Operand& x, int64_t first, int r0, float* values) {
  const T* data = static_cast<const T*>(w.data);
  Weights rows[O];
  for (int o = 0; o < O; ++o) rows[o].row = data + (first + o) * w.inputs;
  float_tile<O, R>(rows, x.floats + r0 * x.stride, x.stride, w.inputs, values);
}

template <int O, int R>
inline void bfloats(const Matrix& w, const Operand& x, int64_t first, int r0, float* values) {
#if defined(__AVX512BF16__)
  const auto* data = static_cast<const BFloat16*>(w.data) + first * w.inputs;
  bfloat16_tile<O, R>(data, x.bfloats + r0 * x.stride, x.stride, w.inputs, values);
#else
  floats<BFloat16Weights, BFloat16, O, R>(w, x, first, r0, values);
#endif
}

template <int O, int R>
inline void scaled(const Matrix& w, const Operand& x, int64_t first, int r0, float* values) {
  floats<Fp8Weights, uint8_t, O, R>(w, x, first, r0, values);
  const float* scale = static_cast<const float*>(w.scale) + first;
  for (int o = 0; o < O; ++o)
    for (int r = 0; r < R; ++r) values[r * kOutputs + o] *= scale[o];
}

// Outputs [from, to) of a tile, O at a time.
template <int O, int R>
void sized(const Matrix& w, const Operand& x, int64_t first, Range outputs, int r, float* values) {
  const auto each = [&](auto tile) {
    for (int64_t o = outputs.begin; o < outputs.end; o += O) tile(w, x, first + o, r, values + o);
  };
  switch (w.format) {
    case WeightFormat::kFloat:
      return each(floats<FloatWeights, float, O, R>);
    case WeightFormat::kBFloat16:
      return each(bfloats<O, R>);
    case WeightFormat::kFp8:
      return each(scaled<O, R>);
    case WeightFormat::kInt8:
      return each(integer_tile<false, O, R>);
    case WeightFormat::kInt4:
      return each(integer_tile<true, O, R>);
  }
}

template <int O>
void high(const Matrix& w, const Operand& x, int64_t first, Range outputs, int r, int rows, float* values) {
  switch (rows) {
    case 1:
      return sized<O, 1>(w, x, first, outputs, r, values);
    case 2:
      return sized<O, 2>(w, x, first, outputs, r, values);
    case 3:
      return sized<O, 3>(w, x, first, outputs, r, values);
    default:
      return sized<O, 4>(w, x, first, outputs, r, values);
  }
}

// Asks for the part of the next tiles' weights that belongs to rows r .. r + kRows - 1 of the inputs: many rows
// leave the memory time, which the processor's own reading ahead does not use up.
void ask_ahead(const Matrix& w, const Operand& x, int64_t o, int r) {
  const int64_t begin = o + kOutputs, end = begin + kOutputs < w.outputs ? begin + kOutputs : w.outputs;
  if (begin >= end) return;
  const int64_t bytes = w.inputs * bytes_of_four(w.format) / 4, all = (end - begin) * bytes;
  const int parts = (x.rows + kRows - 1) / kRows, part = r / kRows;
  const char* data = static_cast<const char*>(w.data) + begin * bytes;
  const int64_t from = all * part / parts;
  prefetch(data + from, all * (part + 1) / parts - from);
}

void vector_tile(const Matrix& weight, const Operand& x, int64_t o, int outputs, int r, int rows, float* values) {
  // Up to so many rows, the weights' memory is what takes the time, and one output after the other reads it
  // fastest; with more rows, the inputs are re-used from registers by a few outputs at a time.
  constexpr int kFewRows = 4, kTogether = 4;
  if (x.rows <= kFewRows) return high<1>(weight, x, o, {0, outputs}, r, rows, values);
  ask_ahead(weight, x, o, r);
  const int64_t together = outputs / kTogether * kTogether;
  high<kTogether>(weight, x, o, {0, together}, r, rows, values);
  high<1>(weight, x, o, {together, outputs}, r, rows, values);
}

}  // namespace

void tile(const Matrix& weight, const Operand& x, int64_t o, int outputs, int r, int rows, float* values) {
  // Where rows are few as well: no dot product may depend on how many there are.
  if (outputs == kOutputs && by_unit(weight.format, weight.inputs)) return unit_tile(weight, x, o, r, rows, values);
  for (int i = 0; i < rows; i += kRows)
    vector_tile(weight, x, o, outputs, r + i, rows - i < kRows ? rows - i : kRows, values + i * kOutputs);
}

}  // namespace braidlm::BRAIDLM_LEVEL
