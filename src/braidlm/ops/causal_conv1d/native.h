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

struct CausalConv1dNativeKernels {
  // Pieces [begin, end).
  void (*forward)(const CausalConv1d&, int64_t begin, int64_t end);
};

// Pieces of time and blocks of channels of the gradients; blocks of a piece are numbered first, then
// pieces of a row, then rows.
inline constexpr int64_t kConvGradientTokens = 128, kConvGradientChannels = 64;

// Gradients: of the outputs, and of what went in. Sums over pieces are left to the caller.
struct CausalConv1dGradients {
  Sequence dy, dx;  // of the inputs' shape
  float* dtail;     // [rows, taps - 1, channels]
  float* dweight;   // [pieces, taps + 1, channels]: the bias last
};

struct CausalConv1dBackwardKernels {
  // Floats of working memory that `backward` needs.
  int64_t (*scratch)(const CausalConv1d&);
  // Blocks [begin, end); `y` of the convolution is not read.
  void (*backward)(const CausalConv1d&, const CausalConv1dGradients&, int64_t begin, int64_t end, float* scratch);
};

}  // namespace braidlm
