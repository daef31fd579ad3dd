// What each operation adds to the module: `bind_<operation>`, in its binding.cpp.
#pragma once

#include <nanobind/nanobind.h>

namespace braidlm {

namespace nb = nanobind;
using namespace nb::literals;

#define BRAIDLM_OPERATION(name) void bind_##name(nb::module_& module);
#include "operation_list.h"
#undef BRAIDLM_OPERATION

}  // namespace braidlm
