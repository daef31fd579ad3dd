#include <nanobind/nanobind.h>

#include "../csrc/arrays.h"
#include "../csrc/bindings.h"
#include "../csrc/kernels.h"
#include "../csrc/scratch.h"
#include "../csrc/threads.h"

namespace braidlm {
namespace {

void gated_conv(Strided u, Strided gate, Array poles, Array residues, Array d, Array before, Strided y, Array after,
                int threads) {
  const int64_t rows = size_of(u, 0), length = size_of(u, 1), channels = size_of(u, 2);
  const int64_t filters = poles.ndim() == 3 ? int64_t(poles.shape(0)) : 0;
  const int64_t modes = poles.ndim() == 3 ? int64_t(poles.shape(1)) : 0;
  if (filters < 1 || channels % filters) throw std::invalid_argument("the number of filters must divide the channels");
  const GatedConv op = {
      .u = checked_sequence(u, "u", rows, length, channels),
      .gate = checked_sequence(gate, "gate", rows, length, channels),
      .y = checked_sequence(y, "y", rows, length, channels),
      .poles = checked<float>(poles, "poles", {filters, modes, 2}),
      .residues = checked<float>(residues, "residues", {filters, modes, 2}),
      .d = checked<float>(d, "d", {channels}),
      .before = checked<float>(before, "before", {rows, channels, modes, 2}),
      .after = checked<float>(after, "after", {rows, channels, modes, 2}),
      .rows = rows,
      .length = length,
      .channels = channels,
      .filters = filters,
      .modes = modes,
  };
  nb::gil_scoped_release released;
  const GatedConvKernels& kernel = *kernels().gated_conv;
  parallel_for(threads, rows * ((channels + kModalChannels - 1) / kModalChannels), 1, [&](int64_t begin, int64_t end) {
    const Scratch scratch(kernel.scratch(op));
    kernel.forward(op, begin, end, scratch.data());
  });
}

}  // namespace

void bind_gated_conv(nb::module_& module) {
  module.def("gated_conv", &gated_conv, "u"_a.noconvert(), "gate"_a.noconvert(), "poles"_a.noconvert(),
             "residues"_a.noconvert(), "d"_a.noconvert(), "before"_a.noconvert(), "y"_a.noconvert(),
             "after"_a.noconvert(), "threads"_a);
}

}  // namespace braidlm
