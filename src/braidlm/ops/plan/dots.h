// Dot products of weights with operands, tile by tile. Per level.
#pragma once

#include "unit_tile.h"

namespace braidlm::BRAIDLM_LEVEL {

// Dot products of outputs o .. o + outputs - 1 with rows r .. r + rows - 1; row r's begin at `values`, the next
// row's kOutputs later.
void tile(const Matrix& weight, const Operand& x, int64_t o, int outputs, int r, int rows, float* values);

// products(), tile by tile of at most `most` rows.
template <class Body>
inline void by_tiles(const Matrix& weight, const Operand& x, int rows, int most, Range outputs, Body body) {
  float values[kMostRows * kOutputs] = {};
  for (int64_t o = outputs.begin; o < outputs.end; o += kOutputs) {
    const int wide = int(outputs.end - o < kOutputs ? outputs.end - o : kOutputs);
    for (int r = 0; r < rows; r += most) {
      const int high = rows - r < most ? rows - r : most;
      tile(weight, x, o, wide, r, high, values);
      for (int j = 0; j < high; ++j)
        for (int i = 0; i < wide; i += kSimdWidth)
          body(o + i, wide - i < kSimdWidth ? wide - i : kSimdWidth, r + j, load(values + j * kOutputs + i));
    }
  }
}

// body(first output, active, row, values) over vectors of a range of outputs, for every row.
template <class Body>
inline void products(const Matrix& weight, const Operand& x, int rows, Range outputs, Body body) {
  if (!by_unit(weight.format, weight.inputs)) return by_tiles(weight, x, rows, kRows, outputs, body);
  with_unit(rows, [&] { by_tiles(weight, x, rows, kMostRows, outputs, body); });
}

}  // namespace braidlm::BRAIDLM_LEVEL
