// Plans as Python builds them.
#pragma once

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "../csrc/arrays.h"
#include "../csrc/kernels.h"
#include "../linear/weight.h"
#include "plan.h"

namespace braidlm {

struct StateShape {
  Dtype dtype;
  std::vector<int64_t> shape;
};

using MaybeArray = std::optional<Array>;

// An input with the tensors that it reads.
struct HeldInput {
  Input input;
  std::vector<Array> held;
};

class Plan {
 public:
  // A buffer of `width` floats a row.
  Offset allocate(int64_t width);
  int state(const std::string& dtype, std::vector<int64_t> shape);
  int kv(const std::string& format, int64_t heads, int64_t k_dim, int64_t v_dim);

  // `size` floats, kept alive.
  const float* floats(const Array& array, const char* name, std::initializer_list<int64_t> shape);
  const float* floats(const MaybeArray& array, const char* name, std::initializer_list<int64_t> shape);
  Matrix hold(const Weight& weight);

  // std::invalid_argument unless [at, at + width) was allocated; a name for the message.
  void check_buffer(Offset at, int64_t width, const char* name) const;
  void check_input(const Input& input, int64_t width) const;
  void check_state(int state, Dtype dtype, const std::vector<int64_t>& shape, const char* name) const;
  const KvShape& kv_shape(int kv) const;

  // Where a product of `width` outputs goes; `kind` is store, add or logits.
  Output output(const std::string& kind, Offset y, double scale, int64_t width);

  // Adds an operation, which `Step`, a member of a table of kernels, runs. `inputs`: what its recurrence reads of a
  // row; empty where it keeps no recurrent state.
  template <auto Step, class Args>
  void add(Args args, std::initializer_list<BufferSlice> inputs = {}) {
    auto held = std::make_shared<Args>(std::move(args));
    const auto run = [](int level, const void* args, const Member& me) { call<Args>(Step, level, args, me); };
    ops_.push_back({run, held.get(), inputs.size() ? keep_inputs(inputs) : nullptr});
    args_.push_back(std::move(held));
  }
  template <class T>
  const T* keep(std::vector<T> several) {
    auto held = std::make_shared<std::vector<T>>(std::move(several));
    args_.push_back(held);
    return held->data();
  }
  void hold_input(const std::vector<Array>& arrays) { held_.insert(held_.end(), arrays.begin(), arrays.end()); }

  // What a thread's scratch and a row's partial sums must hold at least.
  void needs_scratch(int64_t bytes_a_row) { scratch_a_row_ = std::max(scratch_a_row_, bytes_a_row); }
  void needs_partials(int64_t floats_a_span) { partials_ = std::max(partials_, floats_a_span); }

  int64_t vocab = 0;   // of the embedding
  int64_t logits = 0;  // outputs of the head

 private:
  friend class Slots;
  const RecurrenceInputs* keep_inputs(std::initializer_list<BufferSlice> slices);

  template <class Args, class Kernels>
  static void call(void (*Kernels::*step)(const Args&, const Member&), int level, const void* args, const Member& me) {
    (kernels<Kernels>(level).*step)(*static_cast<const Args*>(args), me);
  }

  std::vector<Op> ops_;
  std::vector<std::shared_ptr<void>> args_;
  std::vector<Array> held_;
  std::vector<StateShape> states_;
  std::vector<KvShape> kv_;
  int64_t row_ = 0, scratch_a_row_ = 0, partials_ = 0, record_ = 0;
};

}  // namespace braidlm
