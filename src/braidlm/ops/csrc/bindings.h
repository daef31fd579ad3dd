// What each operation adds to the module.
#pragma once

#include <nanobind/nanobind.h>

namespace braidlm {

namespace nb = nanobind;
using namespace nb::literals;

void bind_norm(nb::module_& module);

}  // namespace braidlm
