// A mixture of experts: only the experts that some row chose are read, each once for all of its rows.
#include "step.h"

#include "../plan/dots.h"
#include "../plan/steps.h"

namespace braidlm::BRAIDLM_LEVEL {
namespace {

constexpr int kMostChosen = 32;  // experts a token, checked where plans are made
constexpr int64_t kGrain = 16;

struct Choice {
  int64_t expert[kMostChosen];
  float weight[kMostChosen];
};

// The top_k largest logits, the first of equal ones first, and their softmax.
Choice choose(const float* logits, int64_t experts, int64_t top_k) {
  Choice choice;
  for (int64_t k = 0; k < top_k; ++k) {
    int64_t best = -1;
    for (int64_t e = 0; e < experts; ++e) {
      bool taken = false;
      for (int64_t i = 0; i < k; ++i) taken = taken || choice.expert[i] == e;
      if (!taken && (best < 0 || logits[e] > logits[best])) best = e;
    }
    choice.expert[k] = best;
    choice.weight[k] = logits[best];
  }
  float total = 0;
  const float most = choice.weight[0];
  for (int64_t k = 0; k < top_k; ++k) total += choice.weight[k] = exp(choice.weight[k] - most);
  for (int64_t k = 0; k < top_k; ++k) choice.weight[k] /= total;
  return choice;
}

// The rows that chose an expert, and as which of their choices.
struct Chosen {
  int count = 0;
  int* rows;
  int64_t* ranks;
  float* weights;
};

// A member's scratch, divided.
struct Space {
  Choice* choices;
  Chosen chosen;
  float* sums;
  char *input, *gathered;
};

template <class T>
T* take(char*& at, int64_t count) {
  T* found = reinterpret_cast<T*>(at);
  at += (count * int64_t(sizeof(T)) + 63) / 64 * 64;
  return found;
}

Space divide(const MoeStep& op, const Member& me) {
  const int64_t rows = me.pass.rows;
  char* at = me.scratch();
  Space space;
  space.choices = take<Choice>(at, rows);
  space.chosen.rows = take<int>(at, rows);
  space.chosen.ranks = take<int64_t>(at, rows);
  space.chosen.weights = take<float>(at, rows);
  space.sums = take<float>(at, rows * op.down.outputs);
  space.gathered = at;
  const int64_t widest = op.down.inputs > op.gate_up.inputs ? op.down.inputs : op.gate_up.inputs;
  space.input = at + operand_bytes(rows, widest);
  for (int b = 0; b < rows; ++b) space.choices[b] = choose(me.pass.row(b) + op.logits, op.experts, op.top_k);
  return space;
}

// Whether any row chose `expert`; no row chooses one twice.
bool find(const MoeStep& op, const Pass& pass, Space& space, int64_t expert) {
  Chosen& chosen = space.chosen;
  chosen.count = 0;
  for (int b = 0; b < pass.rows; ++b)
    for (int64_t k = 0; k < op.top_k; ++k)
      if (space.choices[b].expert[k] == expert) {
        chosen.rows[chosen.count] = b;
        chosen.ranks[chosen.count] = k;
        chosen.weights[chosen.count++] = space.choices[b].weight[k];
      }
  return chosen.count > 0;
}

void gated_halves(const MoeStep& op, const Member& me, Space& space) {
  const int64_t hidden = op.gate_up.outputs / 2;
  const Range range = me.share_of(hidden, kGrain);
  if (range.begin == range.end) return;
  const Operand inputs = prepare_operand(me.pass, op.input, op.gate_up.format, space.input);
  const Chosen& chosen = space.chosen;
  for (int64_t e = 0; e < op.experts; ++e) {
    if (!find(op, me.pass, space, e)) continue;
    const Matrix weight = expert(op.gate_up, e);
    const Operand x = gather_rows(inputs, chosen.rows, chosen.count, space.gathered);
    const auto target = [&](int j) { return me.pass.row(chosen.rows[j]) + op.hidden + chosen.ranks[j] * hidden; };
    products(weight, x, chosen.count, range,
             [&](int64_t o, int active, int r, Floats values) { store_part(target(r) + o, silu(values), active); });
    const Range upper = {hidden + range.begin, hidden + range.end};
    products(weight, x, chosen.count, upper, [&](int64_t o, int active, int r, Floats values) {
      float* y = target(r) + o - hidden;
      store_part(y, load_part(y, active) * values, active);
    });
  }
}

void weighted_sums(const MoeStep& op, const Member& me, Space& space, Range range) {
  const int64_t width = op.down.outputs, hidden = op.down.inputs;
  const Chosen& chosen = space.chosen;
  std::memset(space.sums, 0, me.pass.rows * width * sizeof(float));
  for (int64_t e = 0; e < op.experts; ++e) {
    if (!find(op, me.pass, space, e)) continue;
    const Matrix weight = expert(op.down, e);
    const Operand x =
        operand_of_rows([&](int j) { return me.pass.row(chosen.rows[j]) + op.hidden + chosen.ranks[j] * hidden; },
                        chosen.count, hidden, weight.format, space.gathered);
    products(weight, x, chosen.count, range, [&](int64_t o, int active, int r, Floats values) {
      float* sum = space.sums + chosen.rows[r] * width + o;
      store_part(sum, fma(broadcast(chosen.weights[r]), values, load_part(sum, active)), active);
    });
  }
}

void step(const MoeStep& op, const Member& me) {
  Space space = divide(op, me);
  gated_halves(op, me, space);
  me.team.sync();
  const Range range = me.share_of(op.down.outputs, kGrain);
  if (range.begin == range.end) return;
  weighted_sums(op, me, space, range);
  for (int b = 0; b < me.pass.rows; ++b)
    by_vectors(range, [&](int64_t o, int active) {
      emit(op.output, me.pass, b, o, active, load_part(space.sums + b * op.down.outputs + o, active));
    });
}

}  // namespace

extern const MoeStepKernels moe_step;
const MoeStepKernels moe_step = {step};

}  // namespace braidlm::BRAIDLM_LEVEL
