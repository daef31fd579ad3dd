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

// What goes into the scan, checked.
Ssd checked_ssd(const Strided& x, const Strided& dt, const Array& a, const Strided& b, const Strided& c, const Array& d,
                const Array& before, int64_t groups) {
  const bool known = before.ndim() == 4;
  const int64_t rows = known ? int64_t(before.shape(0)) : 0, heads = known ? int64_t(before.shape(1)) : 0;
  const int64_t head_dim = known ? int64_t(before.shape(2)) : 0, states = known ? int64_t(before.shape(3)) : 0;
  const int64_t length = size_of(x, 1);
  if (groups < 1 || heads % groups) throw std::invalid_argument("groups must divide the heads");
  return {
      .x = checked_sequence(x, "x", rows, length, heads * head_dim),
      .y = {},
      .dt = checked_sequence(dt, "dt", rows, length, heads),
      .b = checked_sequence(b, "b", rows, length, groups * states),
      .c = checked_sequence(c, "c", rows, length, groups * states),
      .a = checked<float>(a, "a", {heads}),
      .d = checked<float>(d, "d", {heads}),
      .before = checked<float>(before, "before", {rows, heads, head_dim, states}),
      .after = nullptr,
      .rows = rows,
      .length = length,
      .heads = heads,
      .head_dim = head_dim,
      .groups = groups,
      .states = states,
  };
}

void ssd(Strided x, Strided dt, Array a, Strided b, Strided c, Array d, Array before, Strided y, Array after,
         int64_t groups, int threads) {
  Ssd op = checked_ssd(x, dt, a, b, c, d, before, groups);
  op.y = checked_sequence(y, "y", op.rows, op.length, op.heads * op.head_dim);
  op.after = checked<float>(after, "after", {op.rows, op.heads, op.head_dim, op.states});
  nb::gil_scoped_release released;
  const SsdNativeKernels& kernel = kernels<SsdNativeKernels>();
  parallel_for(threads, op.rows * op.heads, 1, [&](int64_t begin, int64_t end) {
    const Scratch scratch(kernel.scratch(op));
    kernel.forward(op, begin, end, scratch.data());
  });
}

void ssd_backward(Strided x, Strided dt, Array a, Strided b, Strided c, Array d, Array before, Strided dy, Array dafter,
                  Strided dx, Strided ddt, Array da, Array db, Array dc, Array dd, Array dbefore, int64_t groups,
                  int threads) {
  const Ssd op = checked_ssd(x, dt, a, b, c, d, before, groups);
  const int64_t pairs = op.rows * groups, in_group = ssd_gradient_blocks(op), size = op.length * op.states;
  float* const db_total = checked<float>(db, "db", {op.rows, groups, op.length, op.states});
  float* const dc_total = checked<float>(dc, "dc", {op.rows, groups, op.length, op.states});
  float* const da_total = checked<float>(da, "da", {op.heads});
  float* const dd_total = checked<float>(dd, "dd", {op.heads});
  const Scratch of_b(pairs * in_group * size), of_c(pairs * in_group * size), of_heads(2 * op.rows * op.heads);
  const SsdGradients grad = {
      .dy = checked_sequence(dy, "dy", op.rows, op.length, op.heads * op.head_dim),
      .dafter = checked<float>(dafter, "dafter", {op.rows, op.heads, op.head_dim, op.states}),
      .dx = checked_sequence(dx, "dx", op.rows, op.length, op.heads * op.head_dim),
      .ddt = checked_sequence(ddt, "ddt", op.rows, op.length, op.heads),
      .db = of_b.data(),
      .dc = of_c.data(),
      .da = of_heads.data(),
      .dd = of_heads.data() + op.rows * op.heads,
      .dbefore = checked<float>(dbefore, "dbefore", {op.rows, op.heads, op.head_dim, op.states}),
  };
  nb::gil_scoped_release released;
  const SsdBackwardKernels& kernel = kernels<SsdBackwardKernels>();
  parallel_for(threads, pairs * in_group, 1, [&](int64_t begin, int64_t end) {
    const Scratch scratch(kernel.scratch(op));
    kernel.backward(op, grad, begin, end, scratch.data());
  });
  for (int64_t i = 0; i < pairs; ++i) {
    sum_partials(db_total + i * size, grad.db + i * in_group * size, in_group, size, threads);
    sum_partials(dc_total + i * size, grad.dc + i * in_group * size, in_group, size, threads);
  }
  sum_partials(da_total, grad.da, op.rows, op.heads, 1);
  sum_partials(dd_total, grad.dd, op.rows, op.heads, 1);
}

void ssd_step(Plan& plan, Offset x, Offset b, Offset c, Offset dt, Array a, Array d, Array dt_bias, double dt_min,
              double dt_max, int64_t head_dim, int64_t groups, int64_t states, int state, Offset y) {
  const float* decay = plan.floats(a, "a", {-1});
  const int64_t heads = a.shape(0);
  require(groups > 0 && heads % groups == 0 && head_dim > 0 && states > 0, "groups must divide the heads");
  for (Offset buffer : {x, y}) plan.check_buffer(buffer, heads * head_dim, "heads");
  for (Offset buffer : {b, c}) plan.check_buffer(buffer, groups * states, "B or C");
  plan.check_buffer(dt, heads, "dt");
  plan.check_state(state, Dtype::kFloat, {heads, head_dim, states}, "ssd");
  plan.add<&SsdStepKernels::step>(
      SsdStep{x, b, c, dt, y, decay, plan.floats(d, "d", {heads}), plan.floats(dt_bias, "dt_bias", {heads}),
              float(dt_min), float(dt_max), heads, head_dim, groups, states, state},
      {{x, heads * head_dim}, {b, groups * states}, {dt, heads}});
}

}  // namespace

void bind_ssd(nb::module_& module) {
  module.def("ssd", &ssd, "x"_a.noconvert(), "dt"_a.noconvert(), "a"_a.noconvert(), "b"_a.noconvert(),
             "c"_a.noconvert(), "d"_a.noconvert(), "before"_a.noconvert(), "y"_a.noconvert(), "after"_a.noconvert(),
             "groups"_a, "threads"_a);
  module.def("ssd_backward", &ssd_backward, "x"_a.noconvert(), "dt"_a.noconvert(), "a"_a.noconvert(), "b"_a.noconvert(),
             "c"_a.noconvert(), "d"_a.noconvert(), "before"_a.noconvert(), "dy"_a.noconvert(), "dafter"_a.noconvert(),
             "dx"_a.noconvert(), "ddt"_a.noconvert(), "da"_a.noconvert(), "db"_a.noconvert(), "dc"_a.noconvert(),
             "dd"_a.noconvert(), "dbefore"_a.noconvert(), "groups"_a, "threads"_a);
  module.def("ssd_step", &ssd_step, "plan"_a, "x"_a, "b"_a, "c"_a, "dt"_a, "a"_a, "d"_a, "dt_bias"_a, "dt_min"_a,
             "dt_max"_a, "head_dim"_a, "groups"_a, "states"_a, "state"_a, "y"_a);
}

}  // namespace braidlm
