#include <nanobind/nanobind.h>

#include "../csrc/arrays.h"
#include "../csrc/bindings.h"
#include "../csrc/kernels.h"
#include "../csrc/scratch.h"
#include "../csrc/threads.h"
#include "../plan/builder.h"
#include "native.h"
#include "step.h"

namespace braidlm {
namespace {

// What goes into the convolution, checked.
GatedConv checked_conv(const Strided& u, const Strided& gate, const Array& poles, const Array& residues, const Array& d,
                       const Array& before) {
  const int64_t rows = size_of(u, 0), length = size_of(u, 1), channels = size_of(u, 2);
  const int64_t filters = poles.ndim() == 3 ? int64_t(poles.shape(0)) : 0;
  const int64_t modes = poles.ndim() == 3 ? int64_t(poles.shape(1)) : 0;
  if (filters < 1 || channels % filters) throw std::invalid_argument("the number of filters must divide the channels");
  return {
      .u = checked_sequence(u, "u", rows, length, channels),
      .gate = checked_sequence(gate, "gate", rows, length, channels),
      .y = {},
      .poles = checked<float>(poles, "poles", {filters, modes, 2}),
      .residues = checked<float>(residues, "residues", {filters, modes, 2}),
      .d = checked<float>(d, "d", {channels}),
      .before = checked<float>(before, "before", {rows, channels, modes, 2}),
      .after = nullptr,
      .rows = rows,
      .length = length,
      .channels = channels,
      .filters = filters,
      .modes = modes,
  };
}

int64_t blocks_of(const GatedConv& op) { return op.rows * ((op.channels + kModalChannels - 1) / kModalChannels); }

void gated_conv(Strided u, Strided gate, Array poles, Array residues, Array d, Array before, Strided y, Array after,
                int threads) {
  GatedConv op = checked_conv(u, gate, poles, residues, d, before);
  op.y = checked_sequence(y, "y", op.rows, op.length, op.channels);
  op.after = checked<float>(after, "after", {op.rows, op.channels, op.modes, 2});
  nb::gil_scoped_release released;
  const GatedConvNativeKernels& kernel = kernels<GatedConvNativeKernels>();
  parallel_for(threads, blocks_of(op), 1, [&](int64_t begin, int64_t end) {
    const Scratch scratch(kernel.scratch(op));
    kernel.forward(op, begin, end, scratch.data());
  });
}

void gated_conv_backward(Strided u, Strided gate, Array poles, Array residues, Array d, Array before, Strided dy,
                         Array dafter, Strided du, Strided dgate, Array dpoles, Array dresidues, Array dd,
                         Array dbefore, int threads) {
  const GatedConv op = checked_conv(u, gate, poles, residues, d, before);
  const GatedConvGradients grad = {
      .dy = checked_sequence(dy, "dy", op.rows, op.length, op.channels),
      .dafter = checked<float>(dafter, "dafter", {op.rows, op.channels, op.modes, 2}),
      .du = checked_sequence(du, "du", op.rows, op.length, op.channels),
      .dgate = checked_sequence(dgate, "dgate", op.rows, op.length, op.channels),
      .dpoles = checked<float>(dpoles, "dpoles", {op.rows, op.channels, op.modes, 2}),
      .dresidues = checked<float>(dresidues, "dresidues", {op.rows, op.channels, op.modes, 2}),
      .dd = checked<float>(dd, "dd", {op.rows, op.channels}),
      .dbefore = checked<float>(dbefore, "dbefore", {op.rows, op.channels, op.modes, 2}),
  };
  nb::gil_scoped_release released;
  const GatedConvBackwardKernels& kernel = kernels<GatedConvBackwardKernels>();
  parallel_for(threads, blocks_of(op), 1, [&](int64_t begin, int64_t end) {
    const Scratch scratch(kernel.scratch(op));
    kernel.backward(op, grad, begin, end, scratch.data());
  });
}

void gated_conv_step(Plan& plan, Offset x, Array poles, Array residues, Array d, int64_t parts, int state, Offset y) {
  const float* values = plan.floats(poles, "poles", {2, -1, -1});
  const int64_t modes = poles.shape(1), channels = poles.shape(2);
  require(parts > 0 && channels % parts == 0, "parts must divide the channels");
  plan.check_buffer(x, 3 * channels, "x");
  plan.check_buffer(y, channels, "y");
  plan.check_state(state, Dtype::kFloat, {2, modes, channels}, "gated_conv");
  plan.add<&GatedConvStepKernels::step>(ModalStep{x, y, values, plan.floats(residues, "residues", {2, modes, channels}),
                                                  plan.floats(d, "d", {channels}), channels, parts, modes, state},
                                        {{x, 3 * channels}});
}

}  // namespace

void bind_gated_conv(nb::module_& module) {
  module.def("gated_conv", &gated_conv, "u"_a.noconvert(), "gate"_a.noconvert(), "poles"_a.noconvert(),
             "residues"_a.noconvert(), "d"_a.noconvert(), "before"_a.noconvert(), "y"_a.noconvert(),
             "after"_a.noconvert(), "threads"_a);
  module.def("gated_conv_backward", &gated_conv_backward, "u"_a.noconvert(), "gate"_a.noconvert(),
             "poles"_a.noconvert(), "residues"_a.noconvert(), "d"_a.noconvert(), "before"_a.noconvert(),
             "dy"_a.noconvert(), "dafter"_a.noconvert(), "du"_a.noconvert(), "dgate"_a.noconvert(),
             "dpoles"_a.noconvert(), "dresidues"_a.noconvert(), "dd"_a.noconvert(), "dbefore"_a.noconvert(),
             "threads"_a);
  module.def("gated_conv_step", &gated_conv_step, "plan"_a, "x"_a, "poles"_a, "residues"_a, "d"_a, "parts"_a, "state"_a,
             "y"_a);
}

}  // namespace braidlm
