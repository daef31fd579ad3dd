#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "../csrc/bindings.h"
#include "builder.h"
#include "slots.h"

namespace braidlm {
namespace {

HeldInput plain(Offset x, int64_t width) {
  return {{Input::Kind::kPlain, x, x, width, nullptr, nullptr, 0, false, 1}, {}};
}

HeldInput rms(Offset x, Array weight, double eps, bool eps_outside_root) {
  const float* data = checked<float>(weight, "weight", {-1});
  return {{Input::Kind::kRms, x, x, int64_t(weight.shape(0)), data, nullptr, float(eps), eps_outside_root, 1},
          {weight}};
}

HeldInput gated(Offset y, Offset gate, Array weight, double eps, int64_t groups) {
  const float* data = checked<float>(weight, "weight", {-1});
  const int64_t width = weight.shape(0);
  require(groups > 0 && width % groups == 0, "groups must divide the width");
  return {{Input::Kind::kGated, y, gate, width, data, nullptr, float(eps), false, groups}, {weight}};
}

HeldInput mean(Offset x, Array weight, Offset other, Array other_weight, double eps, bool eps_outside_root) {
  const float* data = checked<float>(weight, "weight", {-1});
  const int64_t width = weight.shape(0);
  const float* more = checked<float>(other_weight, "other_weight", {width});
  return {{Input::Kind::kMean, x, other, width, data, more, float(eps), eps_outside_root, 1}, {weight, other_weight}};
}

HeldInput sum(Offset x, Offset other, Array other_weight, double eps, bool eps_outside_root) {
  const float* data = checked<float>(other_weight, "other_weight", {-1});
  const int64_t width = other_weight.shape(0);
  return {{Input::Kind::kSum, x, other, width, nullptr, data, float(eps), eps_outside_root, 1}, {other_weight}};
}

}  // namespace

void bind_plan(nb::module_& module) {
  nb::class_<HeldInput>(module, "Input");
  module.def("plain", &plain, "x"_a, "width"_a);
  module.def("rms", &rms, "x"_a, "weight"_a.noconvert(), "eps"_a, "eps_outside_root"_a);
  module.def("gated", &gated, "y"_a, "gate"_a, "weight"_a.noconvert(), "eps"_a, "groups"_a);
  module.def("mean", &mean, "x"_a, "weight"_a.noconvert(), "other"_a, "other_weight"_a.noconvert(), "eps"_a,
             "eps_outside_root"_a);
  module.def("sum", &sum, "x"_a, "other"_a, "other_weight"_a.noconvert(), "eps"_a, "eps_outside_root"_a);
  nb::class_<Plan>(module, "Plan")
      .def(nb::init<>())
      .def("allocate", &Plan::allocate, "width"_a)
      .def("state", &Plan::state, "dtype"_a, "shape"_a)
      .def("kv", &Plan::kv, "format"_a, "heads"_a, "k_dim"_a, "v_dim"_a)
      .def_ro("logits", &Plan::logits);
  nb::class_<Slots>(module, "Slots")
      .def(nb::init<std::shared_ptr<Plan>, int64_t>(), "plan"_a, "capacity"_a)
      .def("bind_state", &Slots::bind_state, "state"_a, "tensor"_a.noconvert())
      .def("add_page", &Slots::add_page, "kv"_a, "slot"_a, "start"_a, "k"_a.noconvert(), "v"_a.noconvert(),
           "k_scale"_a.noconvert().none(), "v_scale"_a.noconvert().none())
      .def("release_page", &Slots::release_page, "kv"_a, "slot"_a, "start"_a)
      .def("clear", &Slots::clear, "slot"_a)
      .def("step", &Slots::step, "ids"_a.noconvert(), "slots"_a.noconvert(), "positions"_a.noconvert(),
           "logits"_a.noconvert(), "record"_a, "threads"_a)
      .def("advance", &Slots::advance, "rows"_a.noconvert(), "threads"_a);
}

}  // namespace braidlm
