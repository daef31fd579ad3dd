// Weights as they are stored.
#pragma once

#include "../csrc/types.h"

namespace braidlm {

inline constexpr int64_t kGroup = 32;  // inputs that share a scale in int8 and int4 weights

enum class WeightFormat : uint8_t { kFloat, kBFloat16, kFp8, kInt8, kInt4 };

// A weight [outputs, inputs], or that of expert e at an offset of e whole matrices.
//   fp8:  e4m3, scale: float [outputs]
//   int8: scale: Half [outputs, inputs / 32]
//   int4: 16 bytes a group, byte j holding weights j (low bits) and j + 16; weight = scale q + low,
//         low: Half [outputs, inputs / 32], or null for -8 scale
struct Matrix {
  WeightFormat format;
  const void* data;
  const void* scale;
  const Half* low;
  int64_t outputs, inputs;
};

// Bytes of four weights.
static inline int64_t bytes_of_four(WeightFormat format) {
  constexpr int64_t kBytes[] = {16, 8, 4, 4, 2};
  return kBytes[int(format)];
}

// The matrix of one expert. Static, like all here, so that no instruction-set level uses another one's copy.
static inline Matrix expert(const Matrix& all, int64_t e) {
  Matrix one = all;
  const int64_t weights = all.outputs * all.inputs, groups = weights / kGroup;
  one.data = static_cast<const char*>(all.data) + e * weights * bytes_of_four(all.format) / 4;
  if (all.format == WeightFormat::kFp8) one.scale = static_cast<const float*>(all.scale) + e * all.outputs;
  if (all.format == WeightFormat::kInt8 || all.format == WeightFormat::kInt4) {
    one.scale = static_cast<const Half*>(all.scale) + e * groups;
    if (all.low) one.low = all.low + e * groups;
  }
  return one;
}

struct LinearNativeKernels {
  // Rows [begin, end) as the numbers that they stand for, rounded once to the table's dtype; `out` begins with row 0.
  void (*expand)(const Matrix&, int64_t begin, int64_t end, const Table& out);

  // Tokens that are multiplied side by side. Inputs of so many are laid out together, [inputs, tokens of a panel] in
  // float, zero where there is no token more.
  int64_t panel;
  // Panels [begin, end) of `tokens` rows of x.
  void (*lay_out)(const Table& x, int64_t tokens, int64_t inputs, int64_t begin, int64_t end, float* panels);
  // Outputs [begin, end) of y [tokens, outputs] = x W^T, in float32, each sum rounded once to y's dtype. A sum takes
  // its terms in the order of memory, whatever is computed beside it. `scratch` are room(tokens) floats.
  int64_t (*room)(int64_t tokens);
  void (*multiply)(const Matrix&, const float* panels, int64_t tokens, int64_t begin, int64_t end, const Table& y,
                   float* scratch);
};

}  // namespace braidlm
