// Root-mean-square norms over the rows of a table; see the package for the formulas.
#pragma once

#include "../csrc/types.h"

namespace braidlm {

struct RmsNorm {
  Table x, out;
  const float* weight;  // [width]
  int64_t rows, width;
  float eps;
  bool eps_outside_root;
};

struct GatedRmsNorm {
  Table y, gate, out;
  const float* weight;  // [width]
  int64_t rows, width, groups;
  float eps;
};

struct NormNativeKernels {
  // Rows [begin, end).
  void (*rms_norm)(const RmsNorm&, int64_t begin, int64_t end);
  void (*gated_rms_norm)(const GatedRmsNorm&, int64_t begin, int64_t end, float* scratch);
  // Floats of working memory that `gated_rms_norm` needs.
  int64_t (*scratch)(const GatedRmsNorm&);
};

// Rows whose weight gradients are summed together; pieces of this size are summed in their order by the caller.
inline constexpr int64_t kNormRows = 64;

// Gradients: of what came out, and of what went in (of its dtype). `out` of the norm is not read.
struct RmsNormGradients {
  Table dy, dx;
  float* dweight;  // [pieces, width]
};

struct GatedRmsNormGradients {
  Table dout, dy, dgate;
  float* dweight;  // [pieces, width]
};

struct NormBackwardKernels {
  // Pieces [begin, end).
  void (*rms_norm)(const RmsNorm&, const RmsNormGradients&, int64_t begin, int64_t end);
  void (*gated_rms_norm)(const GatedRmsNorm&, const GatedRmsNormGradients&, int64_t begin, int64_t end, float* scratch);
  // Floats of working memory that `gated_rms_norm` needs.
  int64_t (*scratch)(const GatedRmsNorm&);
};

}  // namespace braidlm
