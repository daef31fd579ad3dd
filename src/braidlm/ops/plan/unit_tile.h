// Dot products of bfloat16 numbers by the processor's matrix unit: kOutputs outputs with up to kUnitRows rows.
//
// Weights are left operands as they lie in memory; the inputs' pairs are right ones, a column a row of the inputs.
#pragma once

#include "../csrc/matrix_unit.h"
#include "operand.h"

namespace braidlm::BRAIDLM_LEVEL {

#if defined(__AMX_BF16__)
static_assert(kOutputs == kUnitRows && kMostRows == kUnitRows && kUnitPart == 2 * kUnitPairs);

template <int kSums, int kRight>
inline void unit_tile(const Matrix& weight, const BFloat16* pairs, int64_t o, int rows, float* values) {
  const int64_t stride = weight.inputs * 2, of_pair = rows * 4;
  const char* w = static_cast<const char*>(weight.data) + o * stride;
  const char* x = reinterpret_cast<const char*>(pairs);
  // The weights that come next lie right behind these: the processor's own reading ahead does not follow 16 rows.
  const char* next = o + 2 * kOutputs <= weight.outputs ? w + kOutputs * stride : w;
  MatrixUnit::zero<kSums>();
  for (int64_t at = 0; at < stride; at += 64, x += kUnitPairs * of_pair) {
    for (int line = 0; line < kOutputs; ++line) __builtin_prefetch(next + at * kOutputs + line * 64, 0, 2);
    MatrixUnit::load<MatrixUnit::kLeft>(w + at, stride);
    MatrixUnit::load<kRight>(x, of_pair);
    MatrixUnit::multiply_add<kSums, kRight>();
  }
  float sums[kOutputs][kUnitRows];
  MatrixUnit::store<kSums>(sums, sizeof sums[0]);
  for (int r = 0; r < rows; ++r)
    for (int i = 0; i < kOutputs; ++i) values[r * kOutputs + i] = sums[i][r];
}

// See tile(), for kOutputs outputs and a whole panel of the operand's pairs.
inline void unit_tile(const Matrix& weight, const Operand& x, int64_t o, int r, int rows, float* values) {
  const BFloat16* pairs = x.pairs + r * weight.inputs;
  if (rows == kUnitRows) return unit_tile<MatrixUnit::kSums, MatrixUnit::kRight>(weight, pairs, o, rows, values);
  unit_tile<MatrixUnit::kSumsOfRest, MatrixUnit::kRightOfRest>(weight, pairs, o, rows, values);
}

// body(), with the unit's registers shaped for so many rows.
template <class Body>
inline void with_unit(int rows, Body body) {
  const MatrixUnit shaped(rows % kUnitRows);
  body();
}

#else
inline void unit_tile(const Matrix&, const Operand&, int64_t, int, int, float*) {}
template <class Body>
inline void with_unit(int, Body body) {
  body();
}
#endif

}  // namespace braidlm::BRAIDLM_LEVEL
