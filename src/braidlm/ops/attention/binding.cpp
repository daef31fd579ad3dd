#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>

#include <algorithm>
#include <optional>

#include "../csrc/arrays.h"
#include "../csrc/bindings.h"
#include "../csrc/kernels.h"
#include "../csrc/scratch.h"
#include "../csrc/threads.h"
#include "../plan/builder.h"
#include "native.h"
#include "step.h"

namespace braidlm {
namespace {

// `groups` heads of keys and of values, at `positions` or from `first` on.
Keys checked_keys(const Strided& k, const Strided& v, const int64_t* positions, int64_t first, const Attention& op) {
  const int64_t count = size_of(k, 0);
  const Keys keys = {checked_table(k, "k", count, op.groups * op.key),
                     checked_table(v, "v", count, op.groups * op.value), positions, first, count};
  if (keys.k.dtype != op.q.dtype || keys.v.dtype != op.q.dtype)
    throw std::invalid_argument("keys and values must have the queries' dtype");
  return keys;
}

// Queries, keys and values of one row, and outputs, checked.
Attention checked_attention(const Strided& q, const Strided& k, const Strided& v, const std::optional<Strided>& past_k,
                            const std::optional<Strided>& past_v, const std::optional<Array>& positions, int64_t start,
                            int64_t groups, int64_t key, int64_t value, double scale, std::optional<int64_t> window,
                            int64_t sink_tokens, const Strided& y, const std::optional<Strided>& lse) {
  const int64_t length = size_of(q, 0), width = size_of(q, 1);
  if (key < 1 || value < 1 || groups < 1 || width % (groups * key))
    throw std::invalid_argument("the queries' width must be a multiple of the keys'");
  const int64_t heads = width / key, held = positions && positions->ndim() ? int64_t(positions->shape(0)) : 0;
  Attention op = {};
  op.q = checked_table(q, "q", length, width);
  op.y = checked_table(y, "y", length, heads * value);
  if (lse) op.lse = checked_table(*lse, "lse", heads, length);
  if (op.lse.data && op.lse.dtype != Dtype::kFloat) throw std::invalid_argument("lse must be float32");
  op.length = length, op.start = start, op.heads = heads, op.groups = groups, op.key = key, op.value = value;
  op.window = std::clamp(window.value_or(kNoWindow), int64_t(1), kNoWindow);
  op.sink_tokens = std::clamp(sink_tokens, int64_t(0), kNoWindow);
  op.scale = float(scale);
  op.now = checked_keys(k, v, nullptr, start, op);
  if (op.now.count != length) throw std::invalid_argument("there must be as many new keys as queries");
  if (start < 0 || start + length > kNoWindow) throw std::invalid_argument("positions must lie in [0, 2^30]");
  if (positions) {
    if (!past_k || !past_v) throw std::invalid_argument("positions come with keys and values");
    op.past = checked_keys(*past_k, *past_v, checked<int64_t>(*positions, "positions", {held}), 0, op);
    if (op.past.count != held) throw std::invalid_argument("each earlier key must have a position");
    const int64_t* at = op.past.positions;
    for (int64_t j = 0; j < held; ++j)
      if (at[j] < 0 || at[j] > kNoWindow || (j > 0 && at[j] <= at[j - 1]))
        throw std::invalid_argument("earlier positions must increase");
  }
  return op;
}

void attention(Strided q, Strided k, Strided v, std::optional<Strided> past_k, std::optional<Strided> past_v,
               std::optional<Array> positions, int64_t start, int64_t groups, int64_t key, int64_t value, double scale,
               std::optional<int64_t> window, int64_t sink_tokens, Strided y, std::optional<Strided> lse, int threads) {
  const Attention op = checked_attention(q, k, v, past_k, past_v, positions, start, groups, key, value, scale, window,
                                         sink_tokens, y, lse);
  nb::gil_scoped_release released;
  const AttentionNativeKernels& kernel = kernels<AttentionNativeKernels>();
  if (op.length)
    parallel_for(threads, kernel.blocks(op), 1, [&](int64_t begin, int64_t end) {
      const Scratch scratch(kernel.scratch(op));
      kernel.forward(op, begin, end, scratch.data());
    });
}

// Gradients of keys or values, [parts, count, width] floats.
Sequence checked_gradient(const Strided& array, const char* name, int64_t parts, int64_t count, int64_t width) {
  const Sequence gradient = checked_sequence(array, name, parts, count, width);
  if (gradient.dtype != Dtype::kFloat) throw std::invalid_argument(std::string(name) + " must be float32");
  return gradient;
}

void attention_backward(Strided q, Strided k, Strided v, std::optional<Strided> past_k, std::optional<Strided> past_v,
                        std::optional<Array> positions, int64_t start, int64_t groups, int64_t key, int64_t value,
                        double scale, std::optional<int64_t> window, int64_t sink_tokens, Strided y, Strided lse,
                        Strided dy, Strided dq, Strided dk, Strided dv, std::optional<Strided> past_dk,
                        std::optional<Strided> past_dv, int threads) {
  const Attention op = checked_attention(q, k, v, past_k, past_v, positions, start, groups, key, value, scale, window,
                                         sink_tokens, y, lse);
  const int64_t parts = size_of(dk, 0), of_keys = groups * key, of_values = groups * value;
  if (parts < 1 || op.heads / groups % parts) throw std::invalid_argument("parts must divide the heads of a key head");
  AttentionGradients grad = {
      .dy = checked_table(dy, "dy", op.length, op.heads * value),
      .dq = checked_table(dq, "dq", op.length, op.heads * key),
      .dk = checked_gradient(dk, "dk", parts, op.length, of_keys),
      .dv = checked_gradient(dv, "dv", parts, op.length, of_values),
      .past_dk = {},
      .past_dv = {},
      .parts = parts,
  };
  if (op.y.dtype != op.q.dtype || grad.dy.dtype != op.q.dtype || grad.dq.dtype != Dtype::kFloat)
    throw std::invalid_argument("y and dy must have the queries' dtype, and dq must be float32");
  if (op.past.count) {
    if (!past_dk || !past_dv) throw std::invalid_argument("earlier keys and values must have gradients");
    grad.past_dk = checked_gradient(*past_dk, "past_dk", parts, op.past.count, of_keys);
    grad.past_dv = checked_gradient(*past_dv, "past_dv", parts, op.past.count, of_values);
  }
  nb::gil_scoped_release released;
  const AttentionBackwardKernels& kernel = kernels<AttentionBackwardKernels>();
  parallel_for(threads, groups * parts, 1, [&](int64_t begin, int64_t end) {
    const Scratch scratch(kernel.scratch(op));
    kernel.backward(op, grad, begin, end, scratch.data());
  });
}

void attention_step(Plan& plan, Offset q, int64_t heads, int kv, double scale, int64_t window, int64_t sink_tokens,
                    Offset y) {
  const KvShape& shape = plan.kv_shape(kv);
  require(heads > 0 && heads % shape.heads == 0, "key/value heads must divide the query heads");
  require(window >= 0 && sink_tokens >= 0, "a window and sink tokens are not negative");
  plan.check_buffer(q, heads * shape.k_dim, "q");
  plan.check_buffer(y, heads * shape.v_dim, "y");
  plan.needs_partials(heads * (shape.v_dim + 2));
  plan.add<&AttentionStepKernels::step>(AttentionStep{q, y, heads, kv, float(scale), window, sink_tokens});
}

}  // namespace

void bind_attention(nb::module_& module) {
  module.def("attention", &attention, "q"_a.noconvert(), "k"_a.noconvert(), "v"_a.noconvert(),
             "past_k"_a.noconvert().none(), "past_v"_a.noconvert().none(), "positions"_a.noconvert().none(), "start"_a,
             "groups"_a, "key"_a, "value"_a, "scale"_a, "window"_a.none(), "sink_tokens"_a, "y"_a.noconvert(),
             "lse"_a.noconvert().none(), "threads"_a);
  module.def("attention_backward", &attention_backward, "q"_a.noconvert(), "k"_a.noconvert(), "v"_a.noconvert(),
             "past_k"_a.noconvert().none(), "past_v"_a.noconvert().none(), "positions"_a.noconvert().none(), "start"_a,
             "groups"_a, "key"_a, "value"_a, "scale"_a, "window"_a.none(), "sink_tokens"_a, "y"_a.noconvert(),
             "lse"_a.noconvert(), "dy"_a.noconvert(), "dq"_a.noconvert(), "dk"_a.noconvert(), "dv"_a.noconvert(),
             "past_dk"_a.noconvert().none(), "past_dv"_a.noconvert().none(), "threads"_a);
  module.def("attention_step", &attention_step, "plan"_a, "q"_a, "heads"_a, "kv"_a, "scale"_a, "window"_a,
             "sink_tokens"_a, "y"_a);
}

}  // namespace braidlm
