// Depthwise causal convolution of rows of equal length; see the package for the formula.
#pragma once

#include "../csrc/types.h"

namespace braidlm {

struct CausalConv1d {
  Sequence x, y;        // of one dtype
  const void* tail;     // [rows, taps - 1, channels] in that dtype: what came before the rows, oldest first
  const float* weight;  // [taps, channels]
  const float* bias;    // [channels], or null
  int64_t rows, length, channels, taps;
  bool silu;
};

// Tokens that are computed together; a row's pieces of this size are numbered through all rows.
inline constexpr int64_t kConvTokens = 32;

struct CausalConv1dKernels {
  // Pieces [begin, end).
  void (*forward)(const CausalConv1d&, int64_t begin, int64_t end);
};

}  // namespace braidlm
