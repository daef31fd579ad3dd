// Element by element over the rows of a table; see the package for the formulas.
#pragma once

#include "../csrc/types.h"

namespace braidlm {

struct Glu {
  Table gate, up, out;
  int64_t width;
  bool gelu;
};

// Gradients, from that of out; all tables are of the gate's dtype.
struct GluGradients {
  Table dout, dgate, dup;
};

struct AddScaled {
  Table x, y, out;
  int64_t width;
  float scale;
};

struct PointwiseNativeKernels {
  // Rows [begin, end).
  void (*glu)(const Glu&, int64_t begin, int64_t end);
  void (*glu_backward)(const Glu&, const GluGradients&, int64_t begin, int64_t end);
  void (*add_scaled)(const AddScaled&, int64_t begin, int64_t end);
};

}  // namespace braidlm
