#include <nanobind/nanobind.h>

#include <optional>

#include "../csrc/arrays.h"
#include "../csrc/bindings.h"
#include "../csrc/kernels.h"
#include "../csrc/scratch.h"
#include "../csrc/threads.h"
#include "../plan/builder.h"
#include "native.h"
#include "step.h"

#include <nanobind/stl/optional.h>

namespace braidlm {
namespace {

// What goes into the scan, checked.
SelectiveScan checked_scan(const Strided& x, const Strided& dt, const std::optional<Array>& dt_bias, const Array& a,
                           const Strided& b, const Strided& c, const Array& d, const std::optional<Strided>& gate,
                           const Array& before) {
  const int64_t rows = size_of(x, 0), length = size_of(x, 1), channels = size_of(x, 2), states = size_of(b, 2);
  SelectiveScan op = {};
  op.x = checked_sequence(x, "x", rows, length, channels);
  op.dt = checked_sequence(dt, "dt", rows, length, channels);
  op.b = checked_sequence(b, "b", rows, length, states);
  op.c = checked_sequence(c, "c", rows, length, states);
  op.a = checked<float>(a, "a", {channels, states});
  op.d = checked<float>(d, "d", {channels});
  if (dt_bias) op.dt_bias = checked<float>(*dt_bias, "dt_bias", {channels});
  if (gate) op.gate = checked_sequence(*gate, "gate", rows, length, channels);
  op.before = checked<float>(before, "before", {rows, channels, states});
  op.rows = rows, op.length = length, op.channels = channels, op.states = states;
  return op;
}

float* checked_borders(const SelectiveScan& op, const Array& borders) {
  return checked<float>(borders, "borders", {op.rows, scan_blocks(op), scan_pieces(op), op.states, kScanChannels});
}

void selective_scan(Strided x, Strided dt, std::optional<Array> dt_bias, Array a, Strided b, Strided c, Array d,
                    std::optional<Strided> gate, Array before, Strided y, Array after, std::optional<Array> borders,
                    int threads) {
  SelectiveScan op = checked_scan(x, dt, dt_bias, a, b, c, d, gate, before);
  op.y = checked_sequence(y, "y", op.rows, op.length, op.channels);
  op.after = checked<float>(after, "after", {op.rows, op.channels, op.states});
  if (borders) op.borders = checked_borders(op, *borders);
  nb::gil_scoped_release released;
  const SelectiveScanNativeKernels& kernel = kernels<SelectiveScanNativeKernels>();
  parallel_for(threads, op.rows * scan_blocks(op), 1, [&](int64_t begin, int64_t end) {
    const Scratch scratch(kernel.scratch(op));
    kernel.forward(op, begin, end, scratch.data());
  });
}

void selective_scan_backward(Strided x, Strided dt, std::optional<Array> dt_bias, Array a, Strided b, Strided c,
                             Array d, std::optional<Strided> gate, Array before, Array borders, Strided dy,
                             Array dafter, Strided dx, Strided ddt, std::optional<Array> ddt_bias, Array da, Array db,
                             Array dc, Array dd, std::optional<Strided> dgate, Array dbefore, int threads) {
  SelectiveScan op = checked_scan(x, dt, dt_bias, a, b, c, d, gate, before);
  op.borders = checked_borders(op, borders);
  const int64_t blocks = scan_blocks(op);
  require(!dt_bias == !ddt_bias && !gate == !dgate, "a bias and a gate must have gradients, and only what is there");
  const SelectiveScanGradients grad = {
      .dy = checked_sequence(dy, "dy", op.rows, op.length, op.channels),
      .dafter = checked<float>(dafter, "dafter", {op.rows, op.channels, op.states}),
      .dx = checked_sequence(dx, "dx", op.rows, op.length, op.channels),
      .ddt = checked_sequence(ddt, "ddt", op.rows, op.length, op.channels),
      .dgate = dgate ? checked_sequence(*dgate, "dgate", op.rows, op.length, op.channels) : Sequence{},
      .db = checked<float>(db, "db", {op.rows, blocks, op.length, op.states}),
      .dc = checked<float>(dc, "dc", {op.rows, blocks, op.length, op.states}),
      .da = checked<float>(da, "da", {op.rows, op.channels, op.states}),
      .dbefore = checked<float>(dbefore, "dbefore", {op.rows, op.channels, op.states}),
      .dd = checked<float>(dd, "dd", {op.rows, op.channels}),
      .ddt_bias = ddt_bias ? checked<float>(*ddt_bias, "ddt_bias", {op.rows, op.channels}) : nullptr,
  };
  nb::gil_scoped_release released;
  const SelectiveScanBackwardKernels& kernel = kernels<SelectiveScanBackwardKernels>();
  parallel_for(threads, op.rows * blocks, 1, [&](int64_t begin, int64_t end) {
    const Scratch scratch(kernel.scratch(op));
    kernel.backward(op, grad, begin, end, scratch.data());
  });
}

void selective_scan_step(Plan& plan, Offset x, Offset dt, Offset b, Offset c, Offset gate, Array a, Array d,
                         Array dt_bias, MaybeArray b_norm, MaybeArray c_norm, double eps, bool eps_outside_root,
                         int state, Offset y) {
  const float* decay = plan.floats(a, "a", {-1, -1});
  const int64_t states = a.shape(0), channels = a.shape(1);
  require(states <= 256 && bool(b_norm) == bool(c_norm), "a scan has up to 256 states, and both norms or none");
  for (Offset buffer : {x, dt, gate, y}) plan.check_buffer(buffer, channels, "channels");
  for (Offset buffer : {b, c}) plan.check_buffer(buffer, states, "B or C");
  plan.check_state(state, Dtype::kFloat, {states, channels}, "selective_scan");
  plan.add<&SelectiveScanStepKernels::step>(
      ScanStep{x, dt, b, c, gate, y, decay, plan.floats(d, "d", {channels}),
               plan.floats(dt_bias, "dt_bias", {channels}), plan.floats(b_norm, "b_norm", {states}),
               plan.floats(c_norm, "c_norm", {states}), float(eps), eps_outside_root, channels, states, state},
      {{x, channels}, {dt, channels}, {b, states}});
}

}  // namespace

void bind_selective_scan(nb::module_& module) {
  module.def("selective_scan", &selective_scan, "x"_a.noconvert(), "dt"_a.noconvert(), "dt_bias"_a.noconvert().none(),
             "a"_a.noconvert(), "b"_a.noconvert(), "c"_a.noconvert(), "d"_a.noconvert(), "gate"_a.noconvert().none(),
             "before"_a.noconvert(), "y"_a.noconvert(), "after"_a.noconvert(), "borders"_a.noconvert().none(),
             "threads"_a);
  module.def("selective_scan_backward", &selective_scan_backward, "x"_a.noconvert(), "dt"_a.noconvert(),
             "dt_bias"_a.noconvert().none(), "a"_a.noconvert(), "b"_a.noconvert(), "c"_a.noconvert(), "d"_a.noconvert(),
             "gate"_a.noconvert().none(), "before"_a.noconvert(), "borders"_a.noconvert(), "dy"_a.noconvert(),
             "dafter"_a.noconvert(), "dx"_a.noconvert(), "ddt"_a.noconvert(), "ddt_bias"_a.noconvert().none(),
             "da"_a.noconvert(), "db"_a.noconvert(), "dc"_a.noconvert(), "dd"_a.noconvert(),
             "dgate"_a.noconvert().none(), "dbefore"_a.noconvert(), "threads"_a);
  module.attr("SCAN_CHANNELS") = kScanChannels;
  module.attr("SCAN_TOKENS") = kScanTokens;
  module.def("selective_scan_step", &selective_scan_step, "plan"_a, "x"_a, "dt"_a, "b"_a, "c"_a, "gate"_a, "a"_a, "d"_a,
             "dt_bias"_a, "b_norm"_a.none(), "c_norm"_a.none(), "eps"_a, "eps_outside_root"_a, "state"_a, "y"_a);
}

}  // namespace braidlm
