#include <nanobind/nanobind.h>

#include "../csrc/arrays.h"
#include "../csrc/bindings.h"
#include "../csrc/kernels.h"
#include "../csrc/scratch.h"
#include "../csrc/sums.h"
#include "../csrc/threads.h"
#include "../plan/builder.h"
#include "native.h"
#include "step.h"

namespace braidlm {
namespace {

// Rows that one thread takes at least: fewer are not worth waking it.
constexpr int64_t kRows = 8;

RmsNorm checked_norm(const Strided& x, const Array& weight, double eps, bool eps_outside_root) {
  RmsNorm op = {};
  op.rows = size_of(x, 0), op.width = size_of(x, 1);
  op.x = checked_table(x, "x", op.rows, op.width);
  op.weight = checked<float>(weight, "weight", {op.width});
  op.eps = float(eps), op.eps_outside_root = eps_outside_root;
  return op;
}

GatedRmsNorm checked_gated_norm(const Strided& y, const Strided& gate, const Array& weight, double eps,
                                int64_t groups) {
  GatedRmsNorm op = {};
  op.rows = size_of(y, 0), op.width = size_of(y, 1), op.groups = groups;
  if (groups < 1 || op.width % groups) throw std::invalid_argument("groups must divide the width");
  op.y = checked_table(y, "y", op.rows, op.width);
  op.gate = checked_table(gate, "gate", op.rows, op.width);
  op.weight = checked<float>(weight, "weight", {op.width});
  op.eps = float(eps);
  return op;
}

// A gradient of `of`, in its dtype.
Table checked_gradient(const Strided& array, const char* name, const Table& of, int64_t rows, int64_t width) {
  const Table table = checked_table(array, name, rows, width);
  if (table.dtype != of.dtype) throw std::invalid_argument(std::string(name) + " must have its input's dtype");
  return table;
}

void rms_norm(Strided x, Array weight, double eps, bool eps_outside_root, Strided out, int threads) {
  RmsNorm op = checked_norm(x, weight, eps, eps_outside_root);
  op.out = checked_table(out, "out", op.rows, op.width);
  nb::gil_scoped_release released;
  parallel_for(threads, op.rows, kRows,
               [&](int64_t begin, int64_t end) { kernels<NormNativeKernels>().rms_norm(op, begin, end); });
}

void gated_rms_norm(Strided y, Strided gate, Array weight, double eps, int64_t groups, Strided out, int threads) {
  GatedRmsNorm op = checked_gated_norm(y, gate, weight, eps, groups);
  op.out = checked_table(out, "out", op.rows, op.width);
  nb::gil_scoped_release released;
  const NormNativeKernels& kernel = kernels<NormNativeKernels>();
  parallel_for(threads, op.rows, kRows, [&](int64_t begin, int64_t end) {
    const Scratch scratch(kernel.scratch(op));
    kernel.gated_rms_norm(op, begin, end, scratch.data());
  });
}

int64_t pieces_of(int64_t rows) { return (rows + kNormRows - 1) / kNormRows; }

void rms_norm_backward(Strided x, Array weight, double eps, bool eps_outside_root, Strided dy, Strided dx,
                       Array dweight, int threads) {
  const RmsNorm op = checked_norm(x, weight, eps, eps_outside_root);
  float* const total = checked<float>(dweight, "dweight", {op.width});
  const Scratch partial(pieces_of(op.rows) * op.width);
  const RmsNormGradients grad = {
      .dy = checked_table(dy, "dy", op.rows, op.width),
      .dx = checked_gradient(dx, "dx", op.x, op.rows, op.width),
      .dweight = partial.data(),
  };
  nb::gil_scoped_release released;
  parallel_for(threads, pieces_of(op.rows), 1,
               [&](int64_t begin, int64_t end) { kernels<NormBackwardKernels>().rms_norm(op, grad, begin, end); });
  sum_partials(total, partial.data(), pieces_of(op.rows), op.width, threads);
}

void gated_rms_norm_backward(Strided y, Strided gate, Array weight, double eps, int64_t groups, Strided dout,
                             Strided dy, Strided dgate, Array dweight, int threads) {
  const GatedRmsNorm op = checked_gated_norm(y, gate, weight, eps, groups);
  float* const total = checked<float>(dweight, "dweight", {op.width});
  const Scratch partial(pieces_of(op.rows) * op.width);
  const GatedRmsNormGradients grad = {
      .dout = checked_table(dout, "dout", op.rows, op.width),
      .dy = checked_gradient(dy, "dy", op.y, op.rows, op.width),
      .dgate = checked_gradient(dgate, "dgate", op.gate, op.rows, op.width),
      .dweight = partial.data(),
  };
  nb::gil_scoped_release released;
  const NormBackwardKernels& kernel = kernels<NormBackwardKernels>();
  parallel_for(threads, pieces_of(op.rows), 1, [&](int64_t begin, int64_t end) {
    const Scratch scratch(kernel.scratch(op));
    kernel.gated_rms_norm(op, grad, begin, end, scratch.data());
  });
  sum_partials(total, partial.data(), pieces_of(op.rows), op.width, threads);
}

void norm_step(Plan& plan, const HeldInput& input, Offset y) {
  plan.check_input(input.input, input.input.width);
  plan.check_buffer(y, input.input.width, "output");
  plan.hold_input(input.held);
  plan.add<&NormStepKernels::evaluate>(Evaluate{input.input, y});
}

}  // namespace

void bind_norm(nb::module_& module) {
  module.def("rms_norm", &rms_norm, "x"_a.noconvert(), "weight"_a.noconvert(), "eps"_a, "eps_outside_root"_a,
             "out"_a.noconvert(), "threads"_a);
  module.def("gated_rms_norm", &gated_rms_norm, "y"_a.noconvert(), "gate"_a.noconvert(), "weight"_a.noconvert(),
             "eps"_a, "groups"_a, "out"_a.noconvert(), "threads"_a);
  module.def("rms_norm_backward", &rms_norm_backward, "x"_a.noconvert(), "weight"_a.noconvert(), "eps"_a,
             "eps_outside_root"_a, "dy"_a.noconvert(), "dx"_a.noconvert(), "dweight"_a.noconvert(), "threads"_a);
  module.def("gated_rms_norm_backward", &gated_rms_norm_backward, "y"_a.noconvert(), "gate"_a.noconvert(),
             "weight"_a.noconvert(), "eps"_a, "groups"_a, "dout"_a.noconvert(), "dy"_a.noconvert(),
             "dgate"_a.noconvert(), "dweight"_a.noconvert(), "threads"_a);
  module.def("norm_step", &norm_step, "plan"_a, "input"_a, "y"_a);
}

}  // namespace braidlm
