#include <nanobind/nanobind.h>

#include "../csrc/arrays.h"
#include "../csrc/bindings.h"
#include "../csrc/kernels.h"
#include "../csrc/scratch.h"
#include "../csrc/threads.h"

namespace braidlm {
namespace {

void selective_scan(Strided x, Strided dt, Array a, Strided b, Strided c, Array d, Array before, Strided y, Array after,
                    int threads) {
  const int64_t rows = size_of(x, 0), length = size_of(x, 1), channels = size_of(x, 2), states = size_of(b, 2);
  const SelectiveScan op = {
      .x = checked_sequence(x, "x", rows, length, channels),
      .dt = checked_sequence(dt, "dt", rows, length, channels),
      .y = checked_sequence(y, "y", rows, length, channels),
      .b = checked_sequence(b, "b", rows, length, states),
      .c = checked_sequence(c, "c", rows, length, states),
      .a = checked<float>(a, "a", {channels, states}),
      .d = checked<float>(d, "d", {channels}),
      .before = checked<float>(before, "before", {rows, channels, states}),
      .after = checked<float>(after, "after", {rows, channels, states}),
      .rows = rows,
      .length = length,
      .channels = channels,
      .states = states,
  };
  nb::gil_scoped_release released;
  const SelectiveScanKernels& kernel = *kernels().selective_scan;
  parallel_for(threads, rows * ((channels + kScanChannels - 1) / kScanChannels), 1, [&](int64_t begin, int64_t end) {
    const Scratch scratch(kernel.scratch(op));
    kernel.forward(op, begin, end, scratch.data());
  });
}

}  // namespace

void bind_selective_scan(nb::module_& module) {
  module.def("selective_scan", &selective_scan, "x"_a.noconvert(), "dt"_a.noconvert(), "a"_a.noconvert(),
             "b"_a.noconvert(), "c"_a.noconvert(), "d"_a.noconvert(), "before"_a.noconvert(), "y"_a.noconvert(),
             "after"_a.noconvert(), "threads"_a);
}

}  // namespace braidlm
