#include <nanobind/nanobind.h>

#include "../csrc/arrays.h"
#include "../csrc/bindings.h"
#include "../csrc/kernels.h"
#include "../csrc/threads.h"

namespace braidlm {
namespace {

// Rows that one thread takes at least: fewer are not worth waking it.
constexpr int64_t kRows = 8;

void rms_norm(Strided x, Array weight, double eps, bool eps_outside_root, Strided out, int threads) {
  const int64_t rows = x.ndim() ? int64_t(x.shape(0)) : 0, width = x.ndim() > 1 ? int64_t(x.shape(1)) : 0;
  const RmsNorm op = {checked_table(x, "x", rows, width), checked_table(out, "out", rows, width),
                      checked<float>(weight, "weight", {width}), width, float(eps), eps_outside_root};
  nb::gil_scoped_release released;
  parallel_for(threads, rows, kRows, [&](int64_t begin, int64_t end) { kernels().norm->rms_norm(op, begin, end); });
}

void gated_rms_norm(Strided y, Strided gate, Array weight, double eps, int64_t groups, Strided out, int threads) {
  const int64_t rows = y.ndim() ? int64_t(y.shape(0)) : 0, width = y.ndim() > 1 ? int64_t(y.shape(1)) : 0;
  if (groups < 1 || width % groups) throw std::invalid_argument("groups must divide the width");
  const GatedRmsNorm op = {checked_table(y, "y", rows, width),     checked_table(gate, "gate", rows, width),
                           checked_table(out, "out", rows, width), checked<float>(weight, "weight", {width}),
                           width,                                  groups,
                           float(eps)};
  nb::gil_scoped_release released;
  parallel_for(threads, rows, kRows,
               [&](int64_t begin, int64_t end) { kernels().norm->gated_rms_norm(op, begin, end); });
}

}  // namespace

void bind_norm(nb::module_& module) {
  module.def("rms_norm", &rms_norm, "x"_a.noconvert(), "weight"_a.noconvert(), "eps"_a, "eps_outside_root"_a,
             "out"_a.noconvert(), "threads"_a);
  module.def("gated_rms_norm", &gated_rms_norm, "y"_a.noconvert(), "gate"_a.noconvert(), "weight"_a.noconvert(),
             "eps"_a, "groups"_a, "out"_a.noconvert(), "threads"_a);
}

}  // namespace braidlm
