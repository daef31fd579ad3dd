#include "builder.h"

#include <algorithm>

namespace braidlm {

Offset Plan::allocate(int64_t width) {
  require(width > 0, "a buffer must have a width");
  const Offset at = row_;
  row_ += (width + 15) / 16 * 16;
  return at;
}

const RecurrenceInputs* Plan::keep_inputs(std::initializer_list<BufferSlice> slices) {
  require(slices.size() <= RecurrenceInputs::kMost, "a recurrence reads too many buffers");
  RecurrenceInputs inputs = {{}, 0, record_};
  for (const BufferSlice& slice : slices) {
    inputs.slices[inputs.count++] = slice;
    record_ += slice.width;
  }
  return keep(std::vector<RecurrenceInputs>{inputs});
}

Output Plan::output(const std::string& kind, Offset y, double scale, int64_t width) {
  if (kind == "logits") {
    require(logits == 0 || logits == width, "a plan has one head");
    logits = width;
    return {Output::Kind::kLogits, 0, float(scale)};
  }
  require(kind == "store" || kind == "add", "a product is stored, added or given as logits");
  check_buffer(y, width, "output");
  return {kind == "add" ? Output::Kind::kAdd : Output::Kind::kStore, y, float(scale)};
}

int Plan::state(const std::string& dtype, std::vector<int64_t> shape) {
  require(dtype == "float32" || dtype == "bfloat16", "states are float32 or bfloat16");
  states_.push_back({dtype == "float32" ? Dtype::kFloat : Dtype::kBFloat16, std::move(shape)});
  return int(states_.size()) - 1;
}

int Plan::kv(const std::string& format, int64_t heads, int64_t k_dim, int64_t v_dim) {
  static const char* const names[] = {"float32", "bfloat16", "float16", "fp8", "int8"};
  for (int i = 0; i < 5; ++i)
    if (format == names[i]) {
      require(heads > 0 && k_dim > 0 && v_dim > 0, "keys and values must have heads and sizes");
      kv_.push_back({KvFormat(i), heads, k_dim, v_dim});
      return int(kv_.size()) - 1;
    }
  throw std::invalid_argument("keys and values cannot be stored as '" + format + "'");
}

const float* Plan::floats(const Array& array, const char* name, std::initializer_list<int64_t> shape) {
  const float* data = checked<float>(array, name, shape);
  held_.push_back(array);
  return data;
}

const float* Plan::floats(const MaybeArray& array, const char* name, std::initializer_list<int64_t> shape) {
  return array ? floats(*array, name, shape) : nullptr;
}

Matrix Plan::hold(const Weight& weight) {
  held_.insert(held_.end(), weight.held.begin(), weight.held.end());
  return weight.matrix;
}

void Plan::check_buffer(Offset at, int64_t width, const char* name) const {
  require(at >= 0 && width >= 0 && at + width <= row_, std::string(name) + " does not lie in this plan's buffers");
}

void Plan::check_input(const Input& input, int64_t width) const {
  require(input.width == width,
          "an input has " + std::to_string(input.width) + " numbers, but its weight takes " + std::to_string(width));
  check_buffer(input.x, width, "input");
  check_buffer(input.other, width, "input");
}

void Plan::check_state(int state, Dtype dtype, const std::vector<int64_t>& shape, const char* name) const {
  require(state >= 0 && state < int(states_.size()) && states_[state].shape == shape,
          std::string(name) + " needs a state of another shape");
  require(dtype == Dtype::kBFloat16 || states_[state].dtype == Dtype::kFloat,
          std::string(name) + " needs a float32 state");
}

const KvShape& Plan::kv_shape(int kv) const {
  require(kv >= 0 && kv < int(kv_.size()), "there are no such keys and values");
  return kv_[kv];
}

}  // namespace braidlm
