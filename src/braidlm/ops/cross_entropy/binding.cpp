#include <nanobind/nanobind.h>

#include "../csrc/arrays.h"
#include "../csrc/bindings.h"
#include "../csrc/kernels.h"
#include "../csrc/threads.h"
#include "native.h"

namespace braidlm {
namespace {

void cross_entropy(Strided logits, Array targets, double scale, double z_loss, bool gradient, Array plain, Array sums,
                   int threads) {
  const int64_t rows = size_of(logits, 0), width = size_of(logits, 1);
  const CrossEntropy op = {checked_table(logits, "logits", rows, width),
                           checked<int64_t>(targets, "targets", {rows}),
                           width,
                           float(scale),
                           float(z_loss),
                           gradient,
                           checked<float>(plain, "plain", {rows}),
                           checked<float>(sums, "sums", {rows})};
  for (int64_t r = 0; r < rows; ++r)
    require(op.targets[r] >= 0 && op.targets[r] < width, "every target must be a place in its row of logits");
  nb::gil_scoped_release released;
  parallel_for(threads, rows, 1,
               [&](int64_t begin, int64_t end) { kernels<CrossEntropyNativeKernels>().cross_entropy(op, begin, end); });
}

}  // namespace

void bind_cross_entropy(nb::module_& module) {
  module.def("cross_entropy", &cross_entropy, "logits"_a.noconvert(), "targets"_a.noconvert(), "scale"_a, "z_loss"_a,
             "gradient"_a, "plain"_a.noconvert(), "sums"_a.noconvert(), "threads"_a);
}

}  // namespace braidlm
