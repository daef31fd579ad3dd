// Plans as Python builds them, and the slots of the sequences that run through one.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "../csrc/arrays.h"
#include "../linear/weight.h"
#include "plan.h"

namespace braidlm {

struct StateShape {
  Dtype dtype;
  std::vector<int64_t> shape;
};

class Plan {
 public:
  // Room for `width` floats a row.
  Place place(int64_t width);
  int state(const std::string& dtype, std::vector<int64_t> shape);
  int kv(const std::string& format, int64_t heads, int64_t k_dim, int64_t v_dim);

  // `size` floats, kept alive.
  const float* floats(const Array& array, const char* name, std::initializer_list<int64_t> shape);
  const float* floats(const std::optional<Array>& array, const char* name, std::initializer_list<int64_t> shape);
  Matrix hold(const Weight& weight);

  // std::invalid_argument unless [at, at + width) is room that was given out; a name for the message.
  void check_place(Place at, int64_t width, const char* name) const;
  void check_input(const Input& input, int64_t width) const;
  void check_state(int state, Dtype dtype, const std::vector<int64_t>& shape, const char* name) const;
  const KvShape& kv_shape(int kv) const;

  // `moving`: what an operation's recurrent state moves on by; empty where it has none.
  template <class T>
  void add(Op::Kind kind, T args, std::initializer_list<Room> moving = {}) {
    auto held = std::make_shared<T>(std::move(args));
    ops_.push_back({kind, held.get(), moving.size() ? moved_by(moving) : nullptr});
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
  const Moving* moved_by(std::initializer_list<Room> rooms);

  std::vector<Op> ops_;
  std::vector<std::shared_ptr<void>> args_;
  std::vector<Array> held_;
  std::vector<StateShape> states_;
  std::vector<KvShape> kv_;
  int64_t row_ = 0, scratch_a_row_ = 0, partials_ = 0, record_ = 0;
};

// The states and keys/values of up to `capacity` sequences.
class Slots {
 public:
  Slots(std::shared_ptr<Plan> plan, int64_t capacity);
  void bind_state(int state, Array tensor);
  void add_page(int kv, int64_t slot, int64_t start, Array k, Array v, std::optional<Array> k_scale,
                std::optional<Array> v_scale);
  void release_page(int kv, int64_t slot, int64_t start);
  void clear(int64_t slot);

  // One token for each of `slots`; a slot that comes several times in a row gets as many tokens. With `record`, what
  // moved the recurrences is kept for `replay`.
  void step(Array ids, Array slots, Array positions, Array logits, bool record, int threads);

  // Moves the recurrent states of the sequences on by rows of the last step that was recorded.
  void replay(Array rows, int threads);

 private:
  struct Page {
    KvPage page;
    std::vector<Array> held;
  };
  void check_slot(int kv, int64_t slot) const;
  void check_rows(const Pass& pass) const;
  void run(Pass& pass, int threads);

  std::shared_ptr<Plan> plan_;
  int64_t capacity_;
  std::vector<StateTensor> states_;
  std::vector<Array> held_;
  std::vector<std::vector<std::vector<Page>>> pages_;  // [kv][slot]
  std::vector<std::vector<std::vector<KvPage>>> views_;
  std::vector<std::vector<KvRow>> rows_;
  std::vector<int> first_rows_;
  std::vector<int64_t> recorded_slots_;  // of the rows whose records are kept
  std::vector<float> activations_, partials_, record_;
  std::vector<float*> records_;
  std::vector<char> scratch_;
};

}  // namespace braidlm
