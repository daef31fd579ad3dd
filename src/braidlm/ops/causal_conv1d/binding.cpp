#include <nanobind/nanobind.h>

#include <optional>

#include "../csrc/arrays.h"
#include "../csrc/bindings.h"
#include "../csrc/kernels.h"
#include "../csrc/scratch.h"
#include "../csrc/sums.h"
#include "../csrc/threads.h"
#include "../plan/builder.h"
#include "native.h"
#include "step.h"

#include <nanobind/stl/optional.h>

namespace braidlm {
namespace {

// What goes into the convolution, checked.
CausalConv1d checked_conv(const Strided& x, const Array& weight, const std::optional<Array>& bias, const Array& tail,
                          bool silu) {
  const int64_t rows = size_of(x, 0), length = size_of(x, 1), channels = size_of(x, 2);
  const int64_t taps = weight.ndim() ? int64_t(weight.shape(0)) : 0;
  if (taps < 1) throw std::invalid_argument("weight must have at least one tap");
  return {
      .x = checked_sequence(x, "x", rows, length, channels),
      .y = {},
      .tail = x.dtype() == kBFloat16
                  ? static_cast<const void*>(checked<BFloat16>(tail, "tail", {rows, taps - 1, channels}))
                  : checked<float>(tail, "tail", {rows, taps - 1, channels}),
      .weight = checked<float>(weight, "weight", {taps, channels}),
      .bias = bias ? checked<float>(*bias, "bias", {channels}) : nullptr,
      .rows = rows,
      .length = length,
      .channels = channels,
      .taps = taps,
      .silu = silu,
  };
}

void causal_conv1d(Strided x, Array weight, std::optional<Array> bias, Array tail, bool silu, Strided y, int threads) {
  CausalConv1d op = checked_conv(x, weight, bias, tail, silu);
  op.y = checked_sequence(y, "y", op.rows, op.length, op.channels);
  if (op.x.dtype != op.y.dtype) throw std::invalid_argument("y must have x's dtype");
  nb::gil_scoped_release released;
  parallel_for(threads, op.rows * ((op.length + kConvTokens - 1) / kConvTokens), 1,
               [&](int64_t begin, int64_t end) { kernels<CausalConv1dNativeKernels>().forward(op, begin, end); });
}

void causal_conv1d_backward(Strided x, Array weight, std::optional<Array> bias, Array tail, bool silu, Strided dy,
                            Strided dx, Array dtail, Array dweight, int threads) {
  const CausalConv1d op = checked_conv(x, weight, bias, tail, silu);
  float* const total = checked<float>(dweight, "dweight", {op.taps + 1, op.channels});
  const int64_t pieces = op.rows * ((op.length + kConvGradientTokens - 1) / kConvGradientTokens);
  const int64_t blocks = (op.channels + kConvGradientChannels - 1) / kConvGradientChannels;
  const Scratch partial(pieces * (op.taps + 1) * op.channels);
  const CausalConv1dGradients grad = {
      .dy = checked_sequence(dy, "dy", op.rows, op.length, op.channels),
      .dx = checked_sequence(dx, "dx", op.rows, op.length, op.channels),
      .dtail = checked<float>(dtail, "dtail", {op.rows, op.taps - 1, op.channels}),
      .dweight = partial.data(),
  };
  nb::gil_scoped_release released;
  const CausalConv1dBackwardKernels& kernel = kernels<CausalConv1dBackwardKernels>();
  parallel_for(threads, pieces * blocks, 1, [&](int64_t begin, int64_t end) {
    const Scratch scratch(kernel.scratch(op));
    kernel.backward(op, grad, begin, end, scratch.data());
  });
  sum_partials(total, partial.data(), pieces, (op.taps + 1) * op.channels, threads);
}

void causal_conv1d_step(Plan& plan, Offset x, Array weight, MaybeArray bias, int state, bool silu, Offset y) {
  const float* data = plan.floats(weight, "weight", {-1, -1});
  const int64_t taps = weight.shape(0), channels = weight.shape(1);
  require(taps > 0, "a convolution needs a tap");
  plan.check_buffer(x, channels, "x");
  plan.check_buffer(y, channels, "y");
  plan.check_state(state, Dtype::kBFloat16, {taps - 1, channels}, "conv");
  plan.add<&CausalConv1dStepKernels::step>(
      ConvStep{x, y, data, plan.floats(bias, "bias", {channels}), channels, taps, state, silu}, {{x, channels}});
}

}  // namespace

void bind_causal_conv1d(nb::module_& module) {
  module.def("causal_conv1d", &causal_conv1d, "x"_a.noconvert(), "weight"_a.noconvert(), "bias"_a.noconvert().none(),
             "tail"_a.noconvert(), "silu"_a, "y"_a.noconvert(), "threads"_a);
  module.def("causal_conv1d_backward", &causal_conv1d_backward, "x"_a.noconvert(), "weight"_a.noconvert(),
             "bias"_a.noconvert().none(), "tail"_a.noconvert(), "silu"_a, "dy"_a.noconvert(), "dx"_a.noconvert(),
             "dtail"_a.noconvert(), "dweight"_a.noconvert(), "threads"_a);
  module.def("causal_conv1d_step", &causal_conv1d_step, "plan"_a, "x"_a, "weight"_a, "bias"_a.none(), "state"_a,
             "silu"_a, "y"_a);
}

}  // namespace braidlm
