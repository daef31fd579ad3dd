#include <nanobind/nanobind.h>

#include <algorithm>

#include "../csrc/bindings.h"
#include "../csrc/kernels.h"
#include "../plan/builder.h"
#include "step.h"

namespace braidlm {
namespace {

void moe_step(Plan& plan, const HeldInput& input, const Weight& gate_up, const Weight& down, Offset logits,
              Offset hidden, int64_t top_k, Offset y, double scale) {
  const int64_t width = down.matrix.inputs;
  plan.check_input(input.input, gate_up.matrix.inputs);
  require(gate_up.matrix.outputs == 2 * width && gate_up.experts == down.experts, "expert weights do not fit together");
  require(top_k > 0 && top_k <= 32 && top_k <= gate_up.experts, "a token takes 1 to 32 experts");
  plan.check_buffer(logits, gate_up.experts, "router logits");
  plan.check_buffer(hidden, top_k * width, "hidden");
  plan.hold_input(input.held);
  const int64_t widest = std::max(width, input.input.width);
  plan.needs_scratch(2 * operand_bytes(1, widest) + 4 * down.matrix.outputs + 2048);
  plan.add<&MoeStepKernels::step>(MoeStep{input.input, plan.hold(gate_up), plan.hold(down), logits, hidden,
                                          gate_up.experts, top_k, plan.output("add", y, scale, down.matrix.outputs)});
}

}  // namespace

void bind_moe(nb::module_& module) {
  module.def("moe_step", &moe_step, "plan"_a, "input"_a, "gate_up"_a, "down"_a, "logits"_a, "hidden"_a, "top_k"_a,
             "y"_a, "scale"_a);
}

}  // namespace braidlm
