// Weights as they are stored.
#pragma once

#include "../csrc/types.h"

namespace braidlm {

inline constexpr int64_t kGroup = 32;  // inputs that share a scale in int8 and int4 weights

enum class Form : uint8_t { kFloat, kBFloat16, kFp8, kInt8, kInt4 };

// A weight [outputs, inputs], or that of expert e at an offset of e whole matrices.
//   fp8:  e4m3, scale: float [outputs]
//   int8: scale: Half [outputs, inputs / 32]
//   int4: 16 bytes a group, byte j holding weights j (low bits) and j + 16; weight = scale q + low,
//         low: Half [outputs, inputs / 32], or null for -8 scale
struct Matrix {
  Form form;
  const void* data;
  const void* scale;
  const Half* low;
  int64_t outputs, inputs;
};

struct LinearKernels {
  // Rows [begin, end) as the numbers that they stand for, rounded once to the table's dtype; `out` begins with row 0.
  void (*expand)(const Matrix&, int64_t begin, int64_t end, const Table& out);
};

}  // namespace braidlm
