// The slots of the sequences that run through a plan.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "builder.h"

namespace braidlm {

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
  // the recurrences read is kept for `advance`.
  void step(Array ids, Array slots, Array positions, Array logits, bool record, int threads);

  // Advances the recurrent states of the sequences by rows of the last step that was recorded.
  void advance(Array rows, int threads);

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
