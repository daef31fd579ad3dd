#include <nanobind/nanobind.h>

#include "../csrc/arrays.h"
#include "../csrc/bindings.h"
#include "../csrc/kernels.h"
#include "../csrc/scratch.h"
#include "../csrc/threads.h"

namespace braidlm {
namespace {

void ssd(Strided x, Strided dt, Array a, Strided b, Strided c, Array d, Array before, Strided y, Array after,
         int64_t groups, int threads) {
  const bool known = before.ndim() == 4;
  const int64_t rows = known ? int64_t(before.shape(0)) : 0, heads = known ? int64_t(before.shape(1)) : 0;
  const int64_t head_dim = known ? int64_t(before.shape(2)) : 0, states = known ? int64_t(before.shape(3)) : 0;
  const int64_t length = size_of(x, 1);
  if (groups < 1 || heads % groups) throw std::invalid_argument("groups must divide the heads");
  const Ssd op = {
      .x = checked_sequence(x, "x", rows, length, heads * head_dim),
      .y = checked_sequence(y, "y", rows, length, heads * head_dim),
      .dt = checked_sequence(dt, "dt", rows, length, heads),
      .b = checked_sequence(b, "b", rows, length, groups * states),
      .c = checked_sequence(c, "c", rows, length, groups * states),
      .a = checked<float>(a, "a", {heads}),
      .d = checked<float>(d, "d", {heads}),
      .before = checked<float>(before, "before", {rows, heads, head_dim, states}),
      .after = checked<float>(after, "after", {rows, heads, head_dim, states}),
      .rows = rows,
      .length = length,
      .heads = heads,
      .head_dim = head_dim,
      .groups = groups,
      .states = states,
  };
  nb::gil_scoped_release released;
  const SsdKernels& kernel = *kernels().ssd;
  parallel_for(threads, rows * heads, 1, [&](int64_t begin, int64_t end) {
    const Scratch scratch(kernel.scratch(op));
    kernel.forward(op, begin, end, scratch.data());
  });
}

}  // namespace

void bind_ssd(nb::module_& module) {
  module.def("ssd", &ssd, "x"_a.noconvert(), "dt"_a.noconvert(), "a"_a.noconvert(), "b"_a.noconvert(),
             "c"_a.noconvert(), "d"_a.noconvert(), "before"_a.noconvert(), "y"_a.noconvert(), "after"_a.noconvert(),
             "groups"_a, "threads"_a);
}

}  // namespace braidlm
