// The module braidlm._native: the processor, and every operation's kernels.
#include "bindings.h"

#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "cpu.h"
#include "kernels.h"
#include "threads.h"

NB_MODULE(_native, module) {
  module.doc() = "Native parts of braidlm.";
  module.def("cpu_features", &braidlm::cpu_features,
             "Instruction-set extensions of this processor that kernels may use.");
  module.def("levels", &braidlm::levels, "Levels of the kernels that this processor can run, slowest first.");
  module.def("level", &braidlm::level, "The level in use.");
  module.def("set_level", &braidlm::set_level, nanobind::arg("name"), "Uses another level from the next call on.");
  module.def("share_threads", &braidlm::share_threads, nanobind::arg("library"),
             "Runs on the threads of the OpenMP runtime of a loaded library; False if it has none.");
#define BRAIDLM_OPERATION(name) braidlm::bind_##name(module);
#include "operation_list.h"
#undef BRAIDLM_OPERATION
}
