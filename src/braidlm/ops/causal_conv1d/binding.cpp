#include <nanobind/nanobind.h>

#include <optional>

#include "../csrc/arrays.h"
#include "../csrc/bindings.h"
#include "../csrc/kernels.h"
#include "../csrc/threads.h"

#include <nanobind/stl/optional.h>

namespace braidlm {
namespace {

void causal_conv1d(Strided x, Array weight, std::optional<Array> bias, Array tail, bool silu, Strided y, int threads) {
  const int64_t rows = size_of(x, 0), length = size_of(x, 1), channels = size_of(x, 2);
  const int64_t taps = weight.ndim() ? int64_t(weight.shape(0)) : 0;
  if (taps < 1) throw std::invalid_argument("weight must have at least one tap");
  const CausalConv1d op = {
      .x = checked_sequence(x, "x", rows, length, channels),
      .y = checked_sequence(y, "y", rows, length, channels),
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
  if (op.x.dtype != op.y.dtype) throw std::invalid_argument("y must have x's dtype");
  nb::gil_scoped_release released;
  parallel_for(threads, rows * ((length + kConvTokens - 1) / kConvTokens), 1,
               [&](int64_t begin, int64_t end) { kernels().causal_conv1d->forward(op, begin, end); });
}

}  // namespace

void bind_causal_conv1d(nb::module_& module) {
  module.def("causal_conv1d", &causal_conv1d, "x"_a.noconvert(), "weight"_a.noconvert(), "bias"_a.noconvert().none(),
             "tail"_a.noconvert(), "silu"_a, "y"_a.noconvert(), "threads"_a);
}

}  // namespace braidlm
