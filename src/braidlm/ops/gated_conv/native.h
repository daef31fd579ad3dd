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

struct GatedConvKernels {
  // Floats of working memory that `forward` needs.
  int64_t (*scratch)(const GatedConv&);
  // Blocks [begin, end).
  void (*forward)(const GatedConv&, int64_t begin, int64_t end, float* scratch);
};

}  // namespace braidlm
