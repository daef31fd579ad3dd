// The table of kernels, one for each instruction-set level.
//
// Every `native.cpp` is compiled once per level, in the namespace braidlm::<level>, and exports its
// functions as one struct declared in the `native.h` beside it. Nothing that is compiled per level
// may be reached other than through this table: the linker would be free to take, say, the AVX-512
// copy of an inline function for everyone. So kernels use no standard containers.
#pragma once

#include <string>
#include <vector>

#include "../causal_conv1d/native.h"
#include "../norm/native.h"
#include "../linear/matrix.h"
#include "../plan/plan.h"
#include "../pointwise/native.h"
#include "../cross_entropy/native.h"
#include "../attention/native.h"
#include "../ssd/native.h"
#include "../gated_conv/native.h"
#include "../selective_scan/native.h"

namespace braidlm {

struct Kernels {
  const NormKernels* norm;
  const NormBackward* norm_backward;
  const CausalConv1dKernels* causal_conv1d;
  const CausalConv1dBackward* causal_conv1d_backward;
  const LinearKernels* linear;
  const PlanKernels* plan;
  const PointwiseKernels* pointwise;
  const CrossEntropyKernels* cross_entropy;
  const AttentionKernels* attention;
  const AttentionBackward* attention_backward;
  const SsdKernels* ssd;
  const SsdBackward* ssd_backward;
  const GatedConvKernels* gated_conv;
  const GatedConvBackward* gated_conv_backward;
  const SelectiveScanKernels* selective_scan;
  const SelectiveScanBackward* selective_scan_backward;
};

// The kernels of the level in use: the best that this processor has, unless another was asked for.
const Kernels& kernels();

// Names of the levels that are compiled in and that this processor can run, slowest first.
std::vector<std::string> levels();

// The level in use.
std::string level();

// Uses another level from the next call on; std::invalid_argument if it is none of `levels()`.
void set_level(const std::string& name);

}  // namespace braidlm
