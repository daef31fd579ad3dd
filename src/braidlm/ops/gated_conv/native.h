// Gated long convolution of rows of equal length; see the package for the formula.
#pragma once

#include "../csrc/types.h"

namespace braidlm {

// Complex numbers are pairs of floats.
struct GatedConv {
  Sequence u, gate, y;            // [rows, length, channels]
  const float *poles, *residues;  // [filters, modes, 2]
  const float* d;                 // [channels]
  const float* before;            // [rows, channels, modes, 2]
  float* after;                   // likewise
  int64_t rows, length, channels, filters, modes;
};

// Channels that are computed together; a row's blocks of this size are numbered through all rows.
inline constexpr int64_t kModalChannels = 64;

// Gradients; of complex numbers, of their real and imaginary parts.
struct GatedConvGradients {
  Sequence dy;                // [rows, length, channels]
  const float* dafter;        // [rows, channels, modes, 2]
  Sequence du, dgate;         // [rows, length, channels]
  float *dpoles, *dresidues;  // [rows, channels, modes, 2]: of each row and channel apart
  float* dd;                  // [rows, channels]
  float* dbefore;             // [rows, channels, modes, 2]
};

struct GatedConvNativeKernels {
  // Floats of working memory that `forward` needs.
  int64_t (*scratch)(const GatedConv&);
  // Blocks [begin, end).
  void (*forward)(const GatedConv&, int64_t begin, int64_t end, float* scratch);
};

struct GatedConvBackwardKernels {
  // Floats of working memory that `backward` needs.
  int64_t (*scratch)(const GatedConv&);
  // Blocks [begin, end), as of `forward`; reads no y and no states after.
  void (*backward)(const GatedConv&, const GatedConvGradients&, int64_t begin, int64_t end, float* scratch);
};

}  // namespace braidlm
