// Sequences of a plan: their states, their pages, and one step of some of them.
#include "slots.h"

#include <algorithm>

#include "walk.h"

namespace braidlm {
namespace {

const nb::dlpack::dtype kPageDtypes[] = {nb::dtype<float>(),
                                         kBFloat16,
                                         {uint8_t(nb::dlpack::dtype_code::Float), 16, 1},
                                         nb::dtype<uint8_t>(),
                                         nb::dtype<int8_t>()};

void* page_data(const Array& array, KvFormat format, int64_t heads, int64_t width, const char* name) {
  require(array.dtype() == kPageDtypes[int(format)], std::string(name) + " of a page has another dtype");
  require(array.ndim() == 3 && int64_t(array.shape(0)) == kPagePositions && int64_t(array.shape(1)) == heads &&
              int64_t(array.shape(2)) == width,
          std::string(name) + " of a page has another shape");
  return const_cast<void*>(static_cast<const void*>(array.data()));
}

}  // namespace

Slots::Slots(std::shared_ptr<Plan> plan, int64_t capacity) : plan_(std::move(plan)), capacity_(capacity) {
  require(capacity > 0, "there must be room for a sequence");
  states_.resize(plan_->states_.size(), {nullptr, Dtype::kFloat, 0});
  pages_.assign(plan_->kv_.size(), std::vector<std::vector<Page>>(capacity));
  views_.assign(plan_->kv_.size(), std::vector<std::vector<KvPage>>(capacity));
  rows_.assign(plan_->kv_.size(), std::vector<KvRow>(capacity, KvRow{nullptr, 0}));
}

void Slots::bind_state(int state, Array tensor) {
  require(state >= 0 && state < int(states_.size()), "there is no such state");
  const StateShape& wanted = plan_->states_[state];
  int64_t count = 1;
  bool fits = tensor.ndim() == wanted.shape.size() + 1 && int64_t(tensor.shape(0)) == capacity_;
  for (size_t i = 0; fits && i < wanted.shape.size(); ++i) {
    fits = int64_t(tensor.shape(i + 1)) == wanted.shape[i];
    count *= wanted.shape[i];
  }
  require(fits, "the state tensor has another shape than its plan");
  require(tensor.dtype() == (wanted.dtype == Dtype::kFloat ? nb::dtype<float>() : kBFloat16),
          "the state tensor has another dtype than its plan");
  states_[state] = {const_cast<void*>(static_cast<const void*>(tensor.data())), wanted.dtype, count};
  held_.push_back(std::move(tensor));
}

void Slots::check_slot(int kv, int64_t slot) const {
  require(kv >= 0 && kv < int(pages_.size()), "there are no such keys and values");
  require(slot >= 0 && slot < capacity_, "there is no such slot");
}

void Slots::add_page(int kv, int64_t slot, int64_t start, Array k, Array v, std::optional<Array> k_scale,
                     std::optional<Array> v_scale) {
  check_slot(kv, slot);
  const KvShape& shape = plan_->kv_[kv];
  std::vector<Page>& pages = pages_[kv][slot];
  require(start >= 0 && start % kPagePositions == 0, "a page starts at a multiple of its size");
  require(pages.empty() || pages.back().page.start < start, "pages are added in order");
  require(bool(k_scale) == (shape.format == KvFormat::kInt8) && bool(v_scale) == bool(k_scale),
          "scales belong to int8 pages");
  Page page = {{start, page_data(k, shape.format, shape.heads, shape.k_dim, "k"),
                page_data(v, shape.format, shape.heads, shape.v_dim, "v"), nullptr, nullptr},
               {k, v}};
  if (k_scale) {
    page.page.k_scale = checked<float>(*k_scale, "k_scale", {kPagePositions, shape.heads});
    page.page.v_scale = checked<float>(*v_scale, "v_scale", {kPagePositions, shape.heads});
    page.held.push_back(*k_scale);
    page.held.push_back(*v_scale);
  }
  views_[kv][slot].push_back(page.page);
  pages.push_back(std::move(page));
}

void Slots::release_page(int kv, int64_t slot, int64_t start) {
  check_slot(kv, slot);
  std::erase_if(pages_[kv][slot], [&](const Page& page) { return page.page.start == start; });
  std::erase_if(views_[kv][slot], [&](const KvPage& page) { return page.start == start; });
}

void Slots::clear(int64_t slot) {
  require(slot >= 0 && slot < capacity_, "there is no such slot");
  for (size_t kv = 0; kv < pages_.size(); ++kv) {
    pages_[kv][slot].clear();
    views_[kv][slot].clear();
  }
}

void Slots::check_rows(const Pass& pass) const {
  for (int b = 0; b < pass.rows; ++b) {
    const int64_t slot = pass.slots[b], position = pass.positions[b];
    require(slot >= 0 && slot < capacity_, "there is no such slot");
    if (b > 0 && pass.slots[b - 1] == slot)
      require(position == pass.positions[b - 1] + 1, "a slot's tokens have positions one after the other");
    else
      require(std::find(pass.slots, pass.slots + b, slot) == pass.slots + b, "a slot's tokens come in a row");
    require(pass.ids[b] >= 0 && pass.ids[b] < plan_->vocab, "a token id is out of range");
    require(position >= 0 && position < (int64_t{1} << 40), "a position is out of range");
    for (const auto& views : views_) {
      const int64_t start = position / kPagePositions * kPagePositions;
      const bool held = std::any_of(views[slot].rbegin(), views[slot].rend(),
                                    [&](const KvPage& page) { return page.start == start; });
      require(held, "a slot has no page for its next position");
    }
  }
}

void Slots::step(Array ids, Array slots, Array positions, Array logits, bool record, int threads) {
  const int rows = ids.ndim() == 1 ? int(ids.shape(0)) : 0;
  require(rows > 0, "a step needs at least one row");
  Pass pass = {};
  pass.kind = record ? Pass::Kind::kRecord : Pass::Kind::kPlain;
  pass.rows = rows;
  pass.ids = checked<int64_t>(ids, "ids", {rows});
  pass.slots = checked<int64_t>(slots, "slots", {rows});
  pass.positions = checked<int64_t>(positions, "positions", {rows});
  pass.logits = checked<float>(logits, "logits", {rows, plan_->logits});
  pass.vocab = plan_->logits;
  check_rows(pass);
  const int64_t last = *std::max_element(pass.positions, pass.positions + rows);
  pass.spans = last / (kSpanPages * kPagePositions) + 1;
  if (record) {
    recorded_slots_.assign(pass.slots, pass.slots + rows);
    record_.resize(rows * plan_->record_);
    records_.clear();
    for (int b = 0; b < rows; ++b) records_.push_back(record_.data() + b * plan_->record_);
    pass.record = records_.data();
  }
  run(pass, threads);
}

void Slots::advance(Array rows, int threads) {
  const int count = rows.ndim() == 1 ? int(rows.shape(0)) : 0;
  require(count > 0, "there is nothing to advance by");
  const int64_t* chosen = checked<int64_t>(rows, "rows", {count});
  std::vector<int64_t> slots;
  records_.clear();
  for (int i = 0; i < count; ++i) {
    require(chosen[i] >= 0 && chosen[i] < int64_t(recorded_slots_.size()), "no such row was recorded");
    require(i == 0 || chosen[i - 1] < chosen[i], "rows come in their order");
    slots.push_back(recorded_slots_[chosen[i]]);
    records_.push_back(record_.data() + chosen[i] * plan_->record_);
  }
  Pass pass = {};
  pass.kind = Pass::Kind::kAdvance;
  pass.rows = count;
  pass.slots = slots.data();
  pass.record = records_.data();
  run(pass, threads);
}

// The rest of a pass, which is the same for all kinds; and the pass itself.
void Slots::run(Pass& pass, int threads) {
  require(threads > 0 && threads <= 1024, "a step needs 1 to 1024 threads");
  for (const StateTensor& state : states_) require(state.base != nullptr, "a state is not bound");
  first_rows_.clear();
  for (int b = 0; b < pass.rows; ++b)
    if (b == 0 || pass.slots[b] != pass.slots[b - 1]) first_rows_.push_back(b);
  pass.sequences = int(first_rows_.size());
  first_rows_.push_back(pass.rows);
  std::vector<const KvRow*> kv;
  for (size_t i = 0; i < views_.size(); ++i) {
    for (int64_t slot = 0; slot < capacity_; ++slot)
      rows_[i][slot] = {views_[i][slot].data(), int64_t(views_[i][slot].size())};
    kv.push_back(rows_[i].data());
  }
  pass.level = current_level();
  pass.ops = plan_->ops_.data();
  pass.op_count = int(plan_->ops_.size());
  pass.kv_shapes = plan_->kv_.data();
  pass.first_rows = first_rows_.data();
  pass.kv = kv.data();
  pass.states = states_.data();
  pass.row_stride = plan_->row_;
  pass.scratch_stride = (plan_->scratch_a_row_ * pass.rows + 8192) / 64 * 64;
  activations_.resize(pass.rows * pass.row_stride);
  partials_.resize(plan_->kv_.empty() ? 0 : pass.rows * pass.spans * plan_->partials_);
  scratch_.resize(threads * pass.scratch_stride + 64);
  pass.activations = activations_.data();
  pass.partials = partials_.data();
  pass.scratch = scratch_.data() + (64 - reinterpret_cast<uintptr_t>(scratch_.data()) % 64) % 64;

  nb::gil_scoped_release released;
  run_team(threads, [&](Team& team, int member) { walk(pass, team, member); });
}

}  // namespace braidlm
