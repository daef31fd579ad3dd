#include <nanobind/nanobind.h>

#include "../csrc/arrays.h"
#include "../csrc/bindings.h"
#include "../csrc/kernels.h"
#include "../csrc/threads.h"
#include "native.h"

namespace braidlm {
namespace {

// Rows that one thread takes at least: fewer are not worth waking it.
constexpr int64_t kRows = 8;

void glu(Strided gate, Strided up, bool gelu, Strided out, int threads) {
  const int64_t rows = size_of(gate, 0), width = size_of(gate, 1);
  const Glu op = {checked_table(gate, "gate", rows, width), checked_table(up, "up", rows, width),
                  checked_table(out, "out", rows, width), width, gelu};
  nb::gil_scoped_release released;
  parallel_for(threads, rows, kRows,
               [&](int64_t begin, int64_t end) { kernels<PointwiseNativeKernels>().glu(op, begin, end); });
}

void glu_backward(Strided gate, Strided up, bool gelu, Strided dout, Strided dgate, Strided dup, int threads) {
  const int64_t rows = size_of(gate, 0), width = size_of(gate, 1);
  const Glu op = {checked_table(gate, "gate", rows, width), checked_table(up, "up", rows, width), {}, width, gelu};
  const GluGradients grad = {checked_table(dout, "dout", rows, width), checked_table(dgate, "dgate", rows, width),
                             checked_table(dup, "dup", rows, width)};
  for (const Table& table : {op.up, grad.dout, grad.dgate, grad.dup})
    require(table.dtype == op.gate.dtype, "gate, up and their gradients must have one dtype");
  nb::gil_scoped_release released;
  parallel_for(threads, rows, kRows, [&](int64_t begin, int64_t end) {
    kernels<PointwiseNativeKernels>().glu_backward(op, grad, begin, end);
  });
}

void add_scaled(Strided x, Strided y, double scale, Strided out, int threads) {
  const int64_t rows = size_of(x, 0), width = size_of(x, 1);
  const AddScaled op = {checked_table(x, "x", rows, width), checked_table(y, "y", rows, width),
                        checked_table(out, "out", rows, width), width, float(scale)};
  nb::gil_scoped_release released;
  parallel_for(threads, rows, kRows,
               [&](int64_t begin, int64_t end) { kernels<PointwiseNativeKernels>().add_scaled(op, begin, end); });
}

}  // namespace

void bind_pointwise(nb::module_& module) {
  module.def("glu", &glu, "gate"_a.noconvert(), "up"_a.noconvert(), "gelu"_a, "out"_a.noconvert(), "threads"_a);
  module.def("glu_backward", &glu_backward, "gate"_a.noconvert(), "up"_a.noconvert(), "gelu"_a, "dout"_a.noconvert(),
             "dgate"_a.noconvert(), "dup"_a.noconvert(), "threads"_a);
  module.def("add_scaled", &add_scaled, "x"_a.noconvert(), "y"_a.noconvert(), "scale"_a, "out"_a.noconvert(),
             "threads"_a);
}

}  // namespace braidlm
