// A decode plan: every operation of one token through a whole model, as data.
//
// A pass takes B rows, each one new token of a sequence; rows one after the other may be the next
// tokens of one sequence. A row's activations live in one float array; a Place is an offset into it.
// Operations run one after the other, each by all threads of a team on its share of the outputs, with
// a barrier behind it. No result depends on how many rows or threads there are: every sum has an order
// of its own.
#pragma once

#include <cstdint>

#include "../csrc/threads.h"
#include "../csrc/types.h"
#include "../linear/matrix.h"

namespace braidlm {

using Place = int64_t;

inline constexpr int64_t kPagePositions = 128;  // as in slots.py
inline constexpr int64_t kSpanPages = 8;        // pages of keys that are attended as one piece of work

// What an operation reads, computed by every thread for itself.
struct Input {
  enum class Kind : uint8_t {
    kPlain,  // x
    kRms,    // rms_norm(x) weight
    kGated,  // rms_norm(x silu(other)) weight, over `groups` equal parts
    kMean,   // (rms_norm(x) weight + rms_norm(other) other_weight) / 2
  } kind;
  Place x, other;
  int64_t width;
  const float *weight, *other_weight;
  float eps;
  bool eps_outside_root;
  int64_t groups;
};

// Where a product goes: y = scale (W x + bias), stored, added, or given to the caller as logits.
struct Output {
  enum class Kind : uint8_t { kStore, kAdd, kLogits } kind;
  Place y;
  float scale;
};

struct Product {
  Matrix weight;
  const float* bias;
  Output output;
};

enum class Activation : uint8_t { kSilu, kGelu };

struct Embed {
  Matrix table;
  float scale;
  Place x;
};

// An input written down, for operations that read places.
struct Evaluate {
  Input input;
  Place y;
};

// Several products of one input.
struct Linear {
  Input input;
  const Product* products;
  int count;
};

// act(gate x + gate_bias) * (up x + up_bias)
struct GatedLinear {
  Input input;
  Matrix gate, up;
  const float *gate_bias, *up_bias;
  Activation activation;
  Place y;
};

// Chosen experts of every row: first their gated halves, then their sums. `logits` holds the router's.
struct Experts {
  Input input;
  Matrix gate_up, down;  // [experts, 2 hidden, width], [experts, width, hidden]
  Place logits, hidden;  // hidden: [top_k, hidden]
  int64_t experts, top_k;
  Output output;
};

// State tensors of the rows: that of row b is at base + slot[b] * stride.
struct Conv {
  Place x, y;
  const float *weight, *bias;  // [taps, channels], [channels] or null
  int64_t channels, taps;
  int state;  // [taps - 1, channels]
  bool silu;
};

struct MambaStep {
  Place x, dt, b, c, z, y;
  const float *a, *d, *dt_bias;  // a [states, channels], negative
  const float *b_norm, *c_norm;  // [states] or null
  float eps;
  bool eps_outside_root;
  int64_t channels, states;
  int state;  // [states, channels]
};

struct SsdStep {
  Place x, b, c, dt, y;
  const float *a, *d, *dt_bias;  // [heads]
  float dt_min, dt_max;
  int64_t heads, head_dim, groups, states;
  int state;  // [heads, head_dim, states]
};

// The modal recurrence; real and imaginary parts apart.
struct HyenaStep {
  Place x, y;                         // x: [parts, 3, channels / parts]: gate, and the two factors of the input
  const float *poles, *residues, *d;  // [2, modes, channels], [channels]
  int64_t channels, parts, modes;
  int state;  // [2, modes, channels]
};

// A base that grows from `original` positions on (dynamic NTK); 0 positions for none.
struct GrowingBase {
  float base, factor;
  int64_t original;
};

// Cosines and sines of a row's position, times `magnitude`: [dims / 2] each.
struct Angles {
  const float* frequencies;
  int64_t pairs;
  float magnitude;
  GrowingBase growing;
  Place cosines, sines;
};

enum class KvFormat : uint8_t { kFloat, kBFloat16, kHalf, kFp8, kInt8 };

struct KvShape {
  KvFormat format;
  int64_t heads, k_dim, v_dim;
};

// Rotates queries and the new key in place, and writes key and value into the row's last page.
struct Remember {
  Place q, k, v;
  int64_t heads, rotated;  // query heads; dimensions that are rotated, 0 for none
  Place cosines, sines;
  int kv;      // which keys and values
  bool owned;  // false: another layer's are used, only queries are rotated
};

struct Attend {
  Place q, y;
  int64_t heads;
  int kv;
  float scale;
  int64_t window, pinned;  // window 0: no limit
};

// Room in a row's activations.
struct Room {
  Place at;
  int64_t width;
};

// What moves a recurrence on: with it and an earlier state, a later one can be made again without the layers between.
// A record of it holds all operations' rooms back to back; this operation's begin at `offset`.
struct Moving {
  static constexpr int kMost = 3;
  Room rooms[kMost];
  int count;
  int64_t offset;
};

struct Op {
  enum class Kind : uint8_t {
    kEmbed,
    kEvaluate,
    kLinear,
    kGatedLinear,
    kExperts,
    kConv,
    kMamba,
    kSsd,
    kHyena,
    kAngles,
    kRemember,
    kAttend
  } kind;
  const void* args;
  const Moving* moving;  // null for operations that keep no recurrent state
};

// One page of keys and values: positions start .. start + kPagePositions - 1, of which the last are perhaps unused.
struct KvPage {
  int64_t start;
  void *k, *v;
  float *k_scale, *v_scale;  // [positions, heads] for int8
};

struct KvRow {
  const KvPage* pages;
  int64_t count;
};

struct StateTensor {
  void* base;
  Dtype dtype;
  int64_t stride;
};

// One pass.
struct Pass {
  enum class Kind : uint8_t {
    kPlain,
    kRecord,  // `record` gets what moves the recurrences
    kReplay,  // only the recurrences move, by what `record` holds
  } kind;
  const Op* ops;
  int op_count;
  const KvShape* kv_shapes;
  int rows, sequences;
  const int* first_rows;                   // [sequences + 1]: of each sequence
  const int64_t *ids, *slots, *positions;  // [rows]; positions count a learned prefix
  float* const* record;                    // [rows]
  float* activations;
  int64_t row_stride;
  const StateTensor* states;
  const KvRow* const* kv;  // [kv][slot]
  float* logits;           // [rows, vocab]
  int64_t vocab;
  char* scratch;  // `scratch_stride` bytes a thread
  int64_t scratch_stride;
  float* partials;  // [rows, heads, spans, v_dim + 2] of the attention that runs
  int64_t spans;

  [[gnu::always_inline]] float* row(int b) const { return activations + b * row_stride; }
};

// Bytes of scratch that an operand of so many rows takes at most.
static inline int64_t operand_bytes(int64_t rows, int64_t width) { return rows * (width + 128) * 12 + 1024; }

struct PlanKernels {
  void (*run)(const Pass&, Team&, int member);
};

}  // namespace braidlm
