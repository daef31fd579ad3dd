// The one place that knows Python: what braidlm._native offers.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "cpu.h"

NB_MODULE(_native, module) {
  module.doc() = "Native parts of braidlm.";
  module.def("cpu_features", &braidlm::cpu_features,
             "Instruction-set extensions of this processor that kernels may use.");
}
