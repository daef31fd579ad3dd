// What each operation adds to the module.
#pragma once

#include <nanobind/nanobind.h>

namespace braidlm {

namespace nb = nanobind;
using namespace nb::literals;

void bind_causal_conv1d(nb::module_& module);
void bind_norm(nb::module_& module);
void bind_linear(nb::module_& module);
void bind_plan(nb::module_& module);
void bind_pointwise(nb::module_& module);
void bind_cross_entropy(nb::module_& module);
void bind_attention(nb::module_& module);
void bind_ssd(nb::module_& module);
void bind_gated_conv(nb::module_& module);
void bind_selective_scan(nb::module_& module);

}  // namespace braidlm
