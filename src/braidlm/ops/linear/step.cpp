// Products with weights: embeddings, projections, gated halves.
#include "step.h"

#include "../plan/dots.h"
#include "../plan/steps.h"
#include "expand.h"

namespace braidlm::BRAIDLM_LEVEL {
namespace {

// Outputs that a thread takes at least: whole cache lines of results.
constexpr int64_t kGrain = 16;

Floats activated(Activation activation, Floats x) { return activation == Activation::kSilu ? silu(x) : gelu(x); }

Floats biased(Floats values, const float* bias, int64_t o, int active) {
  return bias ? values + load_part(bias + o, active) : values;
}

void embed(const Embed& op, const Member& me) {
  const Range rows = me.share_of(me.pass.rows, 1);
  for (int64_t b = rows.begin; b < rows.end; ++b) {
    float* x = me.pass.row(int(b)) + op.x;
    expand_row(op.table, me.pass.ids[b], x);
    if (op.scale != 1.0f)
      for (int64_t i = 0; i < op.table.inputs; ++i) x[i] *= op.scale;
  }
}

void project(const Projections& op, const Member& me) {
  Operand x = {};
  for (int p = 0; p < op.count; ++p) {
    const Product& product = op.products[p];
    const Range range = me.share_of(product.weight.outputs, kGrain);
    if (range.begin == range.end) continue;
    if (!x.floats || x.format != product.weight.format)
      x = prepare_operand(me.pass, op.input, product.weight.format, me.scratch());
    products(product.weight, x, me.pass.rows, range, [&](int64_t o, int active, int r, Floats values) {
      emit(product.output, me.pass, r, o, active, biased(values, product.bias, o, active));
    });
  }
}

void gated(const GatedLinear& op, const Member& me) {
  const Range range = me.share_of(op.gate.outputs, kGrain);
  if (range.begin == range.end) return;
  char* scratch = me.scratch();
  Operand x = prepare_operand(me.pass, op.input, op.gate.format, scratch);
  const auto target = [&](int r, int64_t o) { return me.pass.row(r) + op.y + o; };
  products(op.gate, x, me.pass.rows, range, [&](int64_t o, int active, int r, Floats values) {
    store_part(target(r, o), activated(op.activation, biased(values, op.gate_bias, o, active)), active);
  });
  if (op.up.format != op.gate.format) x = prepare_operand(me.pass, op.input, op.up.format, scratch);
  products(op.up, x, me.pass.rows, range, [&](int64_t o, int active, int r, Floats values) {
    float* y = target(r, o);
    store_part(y, load_part(y, active) * biased(values, op.up_bias, o, active), active);
  });
}

}  // namespace

extern const LinearStepKernels linear_step;
const LinearStepKernels linear_step = {embed, project, gated};

}  // namespace braidlm::BRAIDLM_LEVEL
