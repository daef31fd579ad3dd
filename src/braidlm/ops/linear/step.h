// Products of one token: embeddings, projections, gated halves.
#pragma once

#include "../plan/plan.h"

namespace braidlm {

struct Embed {
  Matrix table;
  float scale;
  Offset x;
};

struct Product {
  Matrix weight;
  const float* bias;
  Output output;
};

// Several products of one input.
struct Projections {
  Input input;
  const Product* products;
  int count;
};

enum class Activation : uint8_t { kSilu, kGelu };

// act(gate x + gate_bias) * (up x + up_bias)
struct GatedLinear {
  Input input;
  Matrix gate, up;
  const float *gate_bias, *up_bias;
  Activation activation;
  Offset y;
};

struct LinearStepKernels {
  void (*embed)(const Embed&, const Member&);
  void (*project)(const Projections&, const Member&);
  void (*gated)(const GatedLinear&, const Member&);
};

}  // namespace braidlm
