#include <nanobind/nanobind.h>

#include "../csrc/bindings.h"
#include "../csrc/kernels.h"
#include "../plan/builder.h"
#include "step.h"

namespace braidlm {
namespace {

void rotary_angles_step(Plan& plan, Array frequencies, double magnitude, double base, double factor, int64_t original,
                        Offset cosines, Offset sines) {
  const float* data = plan.floats(frequencies, "frequencies", {-1});
  const int64_t pairs = frequencies.shape(0);
  plan.check_buffer(cosines, pairs, "cosines");
  plan.check_buffer(sines, pairs, "sines");
  require(original >= 0 && (original == 0 || pairs > 1), "a base that grows needs at least two pairs");
  const GrowingBase growing{float(base), float(factor), original};
  plan.add<&RotaryStepKernels::angles>(Angles{data, pairs, float(magnitude), growing, cosines, sines});
}

void append_kv_step(Plan& plan, Offset q, Offset k, Offset v, int64_t heads, int64_t rotated, Offset cosines,
                    Offset sines, int kv, bool owned) {
  const KvShape& shape = plan.kv_shape(kv);
  require(rotated >= 0 && rotated % 2 == 0 && rotated <= shape.k_dim, "rotated dimensions come in pairs");
  plan.check_buffer(q, heads * shape.k_dim, "q");
  if (owned) plan.check_buffer(k, shape.heads * shape.k_dim, "k");
  if (owned) plan.check_buffer(v, shape.heads * shape.v_dim, "v");
  for (Offset buffer : {cosines, sines}) plan.check_buffer(buffer, rotated / 2, "angles");
  plan.add<&RotaryStepKernels::append_kv>(AppendKv{q, k, v, heads, rotated, cosines, sines, kv, owned});
}

}  // namespace

void bind_rotary(nb::module_& module) {
  module.def("rotary_angles_step", &rotary_angles_step, "plan"_a, "frequencies"_a, "magnitude"_a, "base"_a, "factor"_a,
             "original"_a, "cosines"_a, "sines"_a);
  module.def("append_kv_step", &append_kv_step, "plan"_a, "q"_a, "k"_a, "v"_a, "heads"_a, "rotated"_a, "cosines"_a,
             "sines"_a, "kv"_a, "owned"_a);
}

}  // namespace braidlm
