#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "../csrc/bindings.h"
#include "builder.h"

namespace braidlm {
namespace {

using MaybeArray = std::optional<Array>;

// An input with the tensors that it reads.
struct HeldInput {
  Input input;
  std::vector<Array> held;
};

HeldInput plain(Place x, int64_t width) {
  return {{Input::Kind::kPlain, x, x, width, nullptr, nullptr, 0, false, 1}, {}};
}

HeldInput rms(Place x, Array weight, double eps, bool eps_outside_root) {
  const float* data = checked<float>(weight, "weight", {-1});
  return {{Input::Kind::kRms, x, x, int64_t(weight.shape(0)), data, nullptr, float(eps), eps_outside_root, 1},
          {weight}};
}

HeldInput gated(Place y, Place gate, Array weight, double eps, int64_t groups) {
  const float* data = checked<float>(weight, "weight", {-1});
  const int64_t width = weight.shape(0);
  require(groups > 0 && width % groups == 0, "groups must divide the width");
  return {{Input::Kind::kGated, y, gate, width, data, nullptr, float(eps), false, groups}, {weight}};
}

HeldInput mean(Place x, Array weight, Place other, Array other_weight, double eps, bool eps_outside_root) {
  const float* data = checked<float>(weight, "weight", {-1});
  const int64_t width = weight.shape(0);
  const float* more = checked<float>(other_weight, "other_weight", {width});
  return {{Input::Kind::kMean, x, other, width, data, more, float(eps), eps_outside_root, 1}, {weight, other_weight}};
}

Output output(Plan& plan, const std::string& kind, Place y, double scale, int64_t width) {
  if (kind == "logits") {
    require(plan.logits == 0 || plan.logits == width, "a plan has one head");
    plan.logits = width;
    return {Output::Kind::kLogits, 0, float(scale)};
  }
  require(kind == "store" || kind == "add", "a product is stored, added or given as logits");
  plan.check_place(y, width, "output");
  return {kind == "add" ? Output::Kind::kAdd : Output::Kind::kStore, y, float(scale)};
}

void embed(Plan& plan, const Weight& table, double scale, Place x) {
  plan.check_place(x, table.matrix.inputs, "embedding");
  plan.vocab = table.matrix.outputs;
  plan.add(Op::Kind::kEmbed, Embed{plan.hold(table), float(scale), x});
}

void evaluate(Plan& plan, const HeldInput& input, Place y) {
  plan.check_input(input.input, input.input.width);
  plan.check_place(y, input.input.width, "output");
  plan.hold_input(input.held);
  plan.add(Op::Kind::kEvaluate, Evaluate{input.input, y});
}

struct Part {
  Weight weight;
  MaybeArray bias;
  std::string kind;
  Place y;
  double scale;
};

void linear(Plan& plan, const HeldInput& input, const std::vector<Part>& parts) {
  std::vector<Product> products;
  for (const Part& part : parts) {
    const int64_t outputs = part.weight.matrix.outputs;
    plan.check_input(input.input, part.weight.matrix.inputs);
    products.push_back({plan.hold(part.weight), plan.floats(part.bias, "bias", {outputs}),
                        output(plan, part.kind, part.y, part.scale, outputs)});
  }
  plan.hold_input(input.held);
  plan.needs_scratch(operand_bytes(1, input.input.width));
  const int count = int(products.size());
  plan.add(Op::Kind::kLinear, Linear{input.input, plan.keep(std::move(products)), count});
}

void gated_linear(Plan& plan, const HeldInput& input, const Weight& gate, MaybeArray gate_bias, const Weight& up,
                  MaybeArray up_bias, const std::string& activation, Place y) {
  plan.check_input(input.input, gate.matrix.inputs);
  plan.check_input(input.input, up.matrix.inputs);
  require(gate.matrix.outputs == up.matrix.outputs, "gate and up must have as many outputs");
  require(activation == "silu" || activation == "gelu", "the activation is silu or gelu");
  const int64_t outputs = gate.matrix.outputs;
  plan.check_place(y, outputs, "output");
  plan.hold_input(input.held);
  plan.needs_scratch(operand_bytes(1, input.input.width));
  plan.add(Op::Kind::kGatedLinear,
           GatedLinear{input.input, plan.hold(gate), plan.hold(up), plan.floats(gate_bias, "gate_bias", {outputs}),
                       plan.floats(up_bias, "up_bias", {outputs}),
                       activation == "silu" ? Activation::kSilu : Activation::kGelu, y});
}

void experts(Plan& plan, const HeldInput& input, const Weight& gate_up, const Weight& down, Place logits, Place hidden,
             int64_t top_k, Place y, double scale) {
  const int64_t width = down.matrix.inputs;
  plan.check_input(input.input, gate_up.matrix.inputs);
  require(gate_up.matrix.outputs == 2 * width && gate_up.experts == down.experts, "expert weights do not fit together");
  require(top_k > 0 && top_k <= 32 && top_k <= gate_up.experts, "a token takes 1 to 32 experts");
  plan.check_place(logits, gate_up.experts, "router logits");
  plan.check_place(hidden, top_k * width, "hidden");
  plan.hold_input(input.held);
  const int64_t widest = std::max(width, input.input.width);
  plan.needs_scratch(2 * operand_bytes(1, widest) + 4 * down.matrix.outputs + 2048);
  plan.add(Op::Kind::kExperts, Experts{input.input, plan.hold(gate_up), plan.hold(down), logits, hidden,
                                       gate_up.experts, top_k, output(plan, "add", y, scale, down.matrix.outputs)});
}

void conv(Plan& plan, Place x, Array weight, MaybeArray bias, int state, bool silu, Place y) {
  const float* data = plan.floats(weight, "weight", {-1, -1});
  const int64_t taps = weight.shape(0), channels = weight.shape(1);
  require(taps > 0, "a convolution needs a tap");
  plan.check_place(x, channels, "x");
  plan.check_place(y, channels, "y");
  plan.check_state(state, Dtype::kBFloat16, {taps - 1, channels}, "conv");
  plan.add(Op::Kind::kConv, Conv{x, y, data, plan.floats(bias, "bias", {channels}), channels, taps, state, silu},
           {{x, channels}});
}

void mamba(Plan& plan, Place x, Place dt, Place b, Place c, Place z, Array a, Array d, Array dt_bias, MaybeArray b_norm,
           MaybeArray c_norm, double eps, bool eps_outside_root, int state, Place y) {
  const float* decay = plan.floats(a, "a", {-1, -1});
  const int64_t states = a.shape(0), channels = a.shape(1);
  require(states <= 256 && bool(b_norm) == bool(c_norm), "a scan has up to 256 states, and both norms or none");
  for (Place place : {x, dt, z, y}) plan.check_place(place, channels, "channels");
  for (Place place : {b, c}) plan.check_place(place, states, "B or C");
  plan.check_state(state, Dtype::kFloat, {states, channels}, "mamba");
  plan.add(Op::Kind::kMamba,
           MambaStep{x, dt, b, c, z, y, decay, plan.floats(d, "d", {channels}),
                     plan.floats(dt_bias, "dt_bias", {channels}), plan.floats(b_norm, "b_norm", {states}),
                     plan.floats(c_norm, "c_norm", {states}), float(eps), eps_outside_root, channels, states, state},
           {{x, channels}, {dt, channels}, {b, states}});
}

void ssd(Plan& plan, Place x, Place b, Place c, Place dt, Array a, Array d, Array dt_bias, double dt_min, double dt_max,
         int64_t head_dim, int64_t groups, int64_t states, int state, Place y) {
  const float* decay = plan.floats(a, "a", {-1});
  const int64_t heads = a.shape(0);
  require(groups > 0 && heads % groups == 0 && head_dim > 0 && states > 0, "groups must divide the heads");
  for (Place place : {x, y}) plan.check_place(place, heads * head_dim, "heads");
  for (Place place : {b, c}) plan.check_place(place, groups * states, "B or C");
  plan.check_place(dt, heads, "dt");
  plan.check_state(state, Dtype::kFloat, {heads, head_dim, states}, "ssd");
  plan.add(Op::Kind::kSsd,
           SsdStep{x, b, c, dt, y, decay, plan.floats(d, "d", {heads}), plan.floats(dt_bias, "dt_bias", {heads}),
                   float(dt_min), float(dt_max), heads, head_dim, groups, states, state},
           {{x, heads * head_dim}, {b, groups * states}, {dt, heads}});
}

void hyena(Plan& plan, Place x, Array poles, Array residues, Array d, int64_t parts, int state, Place y) {
  const float* values = plan.floats(poles, "poles", {2, -1, -1});
  const int64_t modes = poles.shape(1), channels = poles.shape(2);
  require(parts > 0 && channels % parts == 0, "parts must divide the channels");
  plan.check_place(x, 3 * channels, "x");
  plan.check_place(y, channels, "y");
  plan.check_state(state, Dtype::kFloat, {2, modes, channels}, "hyena");
  plan.add(Op::Kind::kHyena,
           HyenaStep{x, y, values, plan.floats(residues, "residues", {2, modes, channels}),
                     plan.floats(d, "d", {channels}), channels, parts, modes, state},
           {{x, 3 * channels}});
}

void angles(Plan& plan, Array frequencies, double magnitude, double base, double factor, int64_t original,
            Place cosines, Place sines) {
  const float* data = plan.floats(frequencies, "frequencies", {-1});
  const int64_t pairs = frequencies.shape(0);
  plan.check_place(cosines, pairs, "cosines");
  plan.check_place(sines, pairs, "sines");
  require(original >= 0 && (original == 0 || pairs > 1), "a base that grows needs at least two pairs");
  const GrowingBase growing{float(base), float(factor), original};
  plan.add(Op::Kind::kAngles, Angles{data, pairs, float(magnitude), growing, cosines, sines});
}

void remember(Plan& plan, Place q, Place k, Place v, int64_t heads, int64_t rotated, Place cosines, Place sines, int kv,
              bool owned) {
  const KvShape& shape = plan.kv_shape(kv);
  require(rotated >= 0 && rotated % 2 == 0 && rotated <= shape.k_dim, "rotated dimensions come in pairs");
  plan.check_place(q, heads * shape.k_dim, "q");
  if (owned) plan.check_place(k, shape.heads * shape.k_dim, "k");
  if (owned) plan.check_place(v, shape.heads * shape.v_dim, "v");
  for (Place place : {cosines, sines}) plan.check_place(place, rotated / 2, "angles");
  plan.add(Op::Kind::kRemember, Remember{q, k, v, heads, rotated, cosines, sines, kv, owned});
}

void attend(Plan& plan, Place q, int64_t heads, int kv, double scale, int64_t window, int64_t pinned, Place y) {
  const KvShape& shape = plan.kv_shape(kv);
  require(heads > 0 && heads % shape.heads == 0, "key/value heads must divide the query heads");
  require(window >= 0 && pinned >= 0, "a window and a prefix are not negative");
  plan.check_place(q, heads * shape.k_dim, "q");
  plan.check_place(y, heads * shape.v_dim, "y");
  plan.needs_partials(heads * (shape.v_dim + 2));
  plan.add(Op::Kind::kAttend, Attend{q, y, heads, kv, float(scale), window, pinned});
}

}  // namespace

void bind_plan(nb::module_& module) {
  nb::class_<HeldInput>(module, "Input");
  module.def("plain", &plain, "x"_a, "width"_a);
  module.def("rms", &rms, "x"_a, "weight"_a.noconvert(), "eps"_a, "eps_outside_root"_a);
  module.def("gated", &gated, "y"_a, "gate"_a, "weight"_a.noconvert(), "eps"_a, "groups"_a);
  module.def("mean", &mean, "x"_a, "weight"_a.noconvert(), "other"_a, "other_weight"_a.noconvert(), "eps"_a,
             "eps_outside_root"_a);
  nb::class_<Part>(module, "Part")
      .def(
          "__init__",
          [](Part* self, const Weight& weight, MaybeArray bias, const std::string& kind, Place y, double scale) {
            new (self) Part{weight, std::move(bias), kind, y, scale};
          },
          "weight"_a, "bias"_a.noconvert().none(), "kind"_a, "y"_a, "scale"_a);
  nb::class_<Plan>(module, "Plan")
      .def(nb::init<>())
      .def("place", &Plan::place, "width"_a)
      .def("state", &Plan::state, "dtype"_a, "shape"_a)
      .def("kv", &Plan::kv, "format"_a, "heads"_a, "k_dim"_a, "v_dim"_a)
      .def("embed", &embed, "table"_a, "scale"_a, "x"_a)
      .def("evaluate", &evaluate, "input"_a, "y"_a)
      .def("linear", &linear, "input"_a, "parts"_a)
      .def("gated_linear", &gated_linear, "input"_a, "gate"_a, "gate_bias"_a.none(), "up"_a, "up_bias"_a.none(),
           "activation"_a, "y"_a)
      .def("experts", &experts, "input"_a, "gate_up"_a, "down"_a, "logits"_a, "hidden"_a, "top_k"_a, "y"_a, "scale"_a)
      .def("conv", &conv, "x"_a, "weight"_a, "bias"_a.none(), "state"_a, "silu"_a, "y"_a)
      .def("mamba", &mamba, "x"_a, "dt"_a, "b"_a, "c"_a, "z"_a, "a"_a, "d"_a, "dt_bias"_a, "b_norm"_a.none(),
           "c_norm"_a.none(), "eps"_a, "eps_outside_root"_a, "state"_a, "y"_a)
      .def("ssd", &ssd, "x"_a, "b"_a, "c"_a, "dt"_a, "a"_a, "d"_a, "dt_bias"_a, "dt_min"_a, "dt_max"_a, "head_dim"_a,
           "groups"_a, "states"_a, "state"_a, "y"_a)
      .def("hyena", &hyena, "x"_a, "poles"_a, "residues"_a, "d"_a, "parts"_a, "state"_a, "y"_a)
      .def("angles", &angles, "frequencies"_a, "magnitude"_a, "base"_a, "factor"_a, "original"_a, "cosines"_a,
           "sines"_a)
      .def("remember", &remember, "q"_a, "k"_a, "v"_a, "heads"_a, "rotated"_a, "cosines"_a, "sines"_a, "kv"_a,
           "owned"_a)
      .def("attend", &attend, "q"_a, "heads"_a, "kv"_a, "scale"_a, "window"_a, "pinned"_a, "y"_a)
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
      .def("replay", &Slots::replay, "rows"_a.noconvert(), "threads"_a);
}

}  // namespace braidlm
