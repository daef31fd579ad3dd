#include <nanobind/nanobind.h>

#include <algorithm>

#include "../csrc/bindings.h"
#include "../csrc/kernels.h"
#include "../csrc/scratch.h"
#include "../csrc/threads.h"
#include "../plan/builder.h"
#include "step.h"
#include "weight.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

namespace braidlm {
namespace {

// Rows that one thread takes at least.
constexpr int64_t kRows = 8;

// Floats of inputs that are laid out at a time, and tokens.
constexpr int64_t kLaidOut = 4 << 20, kTokens = 512;

WeightFormat format_of(const std::string& name) {
  static const char* const names[] = {"float32", "bfloat16", "fp8", "int8", "int4"};
  for (int i = 0; i < 5; ++i)
    if (name == names[i]) return WeightFormat(i);
  throw std::invalid_argument("there is no weight format '" + name + "'");
}

constexpr nb::dlpack::dtype kHalf = {uint8_t(nb::dlpack::dtype_code::Float), 16, 1};

const void* sized(const Array& array, const char* name, nb::dlpack::dtype dtype, int64_t count) {
  require(array.dtype() == dtype, std::string(name) + " has another dtype than its format needs");
  require(int64_t(array.size()) == count,
          std::string(name) + " has " + std::to_string(array.size()) + " numbers, not " + std::to_string(count));
  return array.data();
}

Table from_row(Table table, int64_t row) {
  const int64_t skipped = row * table.stride * (table.dtype == Dtype::kFloat ? 4 : 2);
  table.data = static_cast<char*>(table.data) + skipped;
  return table;
}

// Outputs from `begin` on, as many as `out` has rows.
void expand(const Weight& weight, int64_t begin, Strided out, int threads) {
  const int64_t rows = size_of(out, 0);
  require(begin >= 0 && begin + rows <= weight.matrix.outputs, "these outputs do not exist");
  Table table = checked_table(out, "out", rows, weight.matrix.inputs);
  nb::gil_scoped_release released;
  parallel_for(threads, rows, kRows, [&](int64_t first, int64_t last) {
    kernels<LinearNativeKernels>().expand(weight.matrix, begin + first, begin + last, from_row(table, first));
  });
}

// y = x W^T.
void multiply(const Weight& weight, Strided x, Strided y, int threads) {
  require(weight.experts == 1, "experts' weights are multiplied one by one");
  const Matrix& matrix = weight.matrix;
  const LinearNativeKernels& linear = kernels<LinearNativeKernels>();
  const int64_t tokens = size_of(x, 0), inputs = matrix.inputs, fitting = kLaidOut / inputs / linear.panel;
  Table from = checked_table(x, "x", tokens, inputs), to = checked_table(y, "y", tokens, matrix.outputs);
  nb::gil_scoped_release released;
  const int64_t most = std::clamp(fitting * linear.panel, linear.panel, kTokens);
  const auto panels_of = [&](int64_t count) { return (count + linear.panel - 1) / linear.panel; };
  const Scratch panels(panels_of(std::min(tokens, most)) * linear.panel * inputs);
  for (int64_t begin = 0; begin < tokens; begin += most) {
    const int64_t count = std::min(tokens - begin, most);
    parallel_for(threads, panels_of(count), 1, [&](int64_t first, int64_t last) {
      linear.lay_out(from_row(from, begin), count, inputs, first, last, panels.data());
    });
    parallel_for(threads, matrix.outputs, kRows, [&](int64_t first, int64_t last) {
      const Scratch scratch(linear.room(count));
      linear.multiply(matrix, panels.data(), count, first, last, from_row(to, begin), scratch.data());
    });
  }
}

void embedding_step(Plan& plan, const Weight& table, double scale, Offset x) {
  plan.check_buffer(x, table.matrix.inputs, "embedding");
  plan.vocab = table.matrix.outputs;
  plan.add<&LinearStepKernels::embed>(Embed{plan.hold(table), float(scale), x});
}

struct Part {
  Weight weight;
  MaybeArray bias;
  std::string kind;
  Offset y;
  double scale;
};

void linear_step(Plan& plan, const HeldInput& input, const std::vector<Part>& parts) {
  std::vector<Product> products;
  for (const Part& part : parts) {
    const int64_t outputs = part.weight.matrix.outputs;
    plan.check_input(input.input, part.weight.matrix.inputs);
    products.push_back({plan.hold(part.weight), plan.floats(part.bias, "bias", {outputs}),
                        plan.output(part.kind, part.y, part.scale, outputs)});
  }
  plan.hold_input(input.held);
  plan.needs_scratch(operand_bytes(1, input.input.width));
  const int count = int(products.size());
  plan.add<&LinearStepKernels::project>(Projections{input.input, plan.keep(std::move(products)), count});
}

void gated_linear_step(Plan& plan, const HeldInput& input, const Weight& gate, MaybeArray gate_bias, const Weight& up,
                       MaybeArray up_bias, const std::string& activation, Offset y) {
  plan.check_input(input.input, gate.matrix.inputs);
  plan.check_input(input.input, up.matrix.inputs);
  require(gate.matrix.outputs == up.matrix.outputs, "gate and up must have as many outputs");
  require(activation == "silu" || activation == "gelu", "the activation is silu or gelu");
  const int64_t outputs = gate.matrix.outputs;
  plan.check_buffer(y, outputs, "output");
  plan.hold_input(input.held);
  plan.needs_scratch(operand_bytes(1, input.input.width));
  plan.add<&LinearStepKernels::gated>(GatedLinear{
      input.input, plan.hold(gate), plan.hold(up), plan.floats(gate_bias, "gate_bias", {outputs}),
      plan.floats(up_bias, "up_bias", {outputs}), activation == "silu" ? Activation::kSilu : Activation::kGelu, y});
}

}  // namespace

Weight::Weight(const std::string& format, Array data, std::optional<Array> scale, std::optional<Array> low,
               int64_t outputs, int64_t inputs, int64_t experts)
    : matrix{format_of(format), nullptr, nullptr, nullptr, outputs, inputs}, experts(experts) {
  require(outputs > 0 && inputs > 0 && experts > 0, "a weight must have outputs, inputs and experts");
  const int64_t count = outputs * inputs * experts, groups = count / kGroup;
  const bool integer = matrix.format == WeightFormat::kInt8 || matrix.format == WeightFormat::kInt4;
  require(!integer || inputs % kGroup == 0, "inputs of an int8 or int4 weight must be a multiple of 32");
  require(bool(scale) == (integer || matrix.format == WeightFormat::kFp8),
          "a scale belongs to fp8, int8 and int4 weights");
  require(!low || matrix.format == WeightFormat::kInt4, "lowest values belong to int4 weights");
  static const nb::dlpack::dtype dtypes[] = {nb::dtype<float>(), kBFloat16, nb::dtype<uint8_t>(), nb::dtype<int8_t>(),
                                             nb::dtype<uint8_t>()};
  matrix.data =
      sized(data, "data", dtypes[int(matrix.format)], matrix.format == WeightFormat::kInt4 ? count / 2 : count);
  if (scale && integer) matrix.scale = sized(*scale, "scale", kHalf, groups);
  if (scale && !integer) matrix.scale = sized(*scale, "scale", nb::dtype<float>(), outputs * experts);
  if (low) matrix.low = static_cast<const Half*>(sized(*low, "low", kHalf, groups));
  held = {data};
  if (scale) held.push_back(*scale);
  if (low) held.push_back(*low);
}

void bind_linear(nb::module_& module) {
  nb::class_<Weight>(module, "Weight")
      .def(nb::init<const std::string&, Array, MaybeArray, MaybeArray, int64_t, int64_t, int64_t>(), "format"_a,
           "data"_a.noconvert(), "scale"_a.noconvert().none(), "low"_a.noconvert().none(), "outputs"_a, "inputs"_a,
           "experts"_a)
      .def("expand", &expand, "begin"_a, "out"_a.noconvert(), "threads"_a)
      .def("multiply", &multiply, "x"_a.noconvert(), "y"_a.noconvert(), "threads"_a);
  nb::class_<Part>(module, "Part")
      .def(
          "__init__",
          [](Part* self, const Weight& weight, MaybeArray bias, const std::string& kind, Offset y, double scale) {
            new (self) Part{weight, std::move(bias), kind, y, scale};
          },
          "weight"_a, "bias"_a.noconvert().none(), "kind"_a, "y"_a, "scale"_a);
  module.def("embedding_step", &embedding_step, "plan"_a, "table"_a, "scale"_a, "x"_a);
  module.def("linear_step", &linear_step, "plan"_a, "input"_a, "parts"_a);
  module.def("gated_linear_step", &gated_linear_step, "plan"_a, "input"_a, "gate"_a, "gate_bias"_a.none(), "up"_a,
             "up_bias"_a.none(), "activation"_a, "y"_a);
}

}  // namespace braidlm
