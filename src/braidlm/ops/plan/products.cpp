// Products with weights: embeddings, projections, gated halves.
#include "../linear/expand.h"
#include "walk.h"

namespace braidlm::BRAIDLM_LEVEL {
namespace {

// Outputs that a thread takes at least: whole cache lines of results.
constexpr int64_t kGrain = 16;

float activated(Activation activation, float x) { return activation == Activation::kSilu ? silu(x) : gelu(x); }

}  // namespace

void run(const Embed& op, const Member& me) {
  const Range rows = me.share_of(me.pass.rows, 1);
  for (int64_t b = rows.begin; b < rows.end; ++b) {
    float* x = me.pass.row(int(b)) + op.x;
    expand_row(op.table, me.pass.ids[b], x);
    if (op.scale != 1.0f)
      for (int64_t i = 0; i < op.table.inputs; ++i) x[i] *= op.scale;
  }
}

void run(const Evaluate& op, const Member& me) {
  const Range rows = me.share_of(me.pass.rows, 1);
  for (int64_t b = rows.begin; b < rows.end; ++b) {
    float* row = me.pass.row(int(b));
    evaluate(op.input, row, row + op.y);
  }
}

void run(const Linear& op, const Member& me) {
  Operand x = {};
  for (int p = 0; p < op.count; ++p) {
    const Product& product = op.products[p];
    const Range range = me.share_of(product.weight.outputs, kGrain);
    if (range.begin == range.end) continue;
    if (!x.floats || x.form != product.weight.form) x = prepare(me.pass, op.input, product.weight.form, me.scratch());
    products(product.weight, x, me.pass.rows, range, [&](int64_t o, int wide, int r, int high, auto& values) {
      for (int i = 0; i < wide; ++i)
        for (int j = 0; j < high; ++j)
          emit(product.output, me.pass, r + j, o + i, values[i][j] + (product.bias ? product.bias[o + i] : 0.0f));
    });
  }
}

void run(const GatedLinear& op, const Member& me) {
  const Range range = me.share_of(op.gate.outputs, kGrain);
  if (range.begin == range.end) return;
  char* scratch = me.scratch();
  Operand x = prepare(me.pass, op.input, op.gate.form, scratch);
  const Output store = {Output::Kind::kStore, op.y, 1.0f};
  products(op.gate, x, me.pass.rows, range, [&](int64_t o, int wide, int r, int high, auto& values) {
    for (int i = 0; i < wide; ++i)
      for (int j = 0; j < high; ++j)
        emit(store, me.pass, r + j, o + i,
             activated(op.activation, values[i][j] + (op.gate_bias ? op.gate_bias[o + i] : 0.0f)));
  });
  if (op.up.form != op.gate.form) x = prepare(me.pass, op.input, op.up.form, scratch);
  products(op.up, x, me.pass.rows, range, [&](int64_t o, int wide, int r, int high, auto& values) {
    for (int i = 0; i < wide; ++i)
      for (int j = 0; j < high; ++j)
        me.pass.row(r + j)[op.y + o + i] *= values[i][j] + (op.up_bias ? op.up_bias[o + i] : 0.0f);
  });
}

}  // namespace braidlm::BRAIDLM_LEVEL
