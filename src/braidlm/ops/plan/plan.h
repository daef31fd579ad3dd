// A decode plan: every operation of one token through a whole model, as data.
//
// A pass takes B rows, each one new token of a sequence; rows one after the other may be the next
// tokens of one sequence. A row's activations live in one float array, in which an operation's buffers have
// offsets. Operations run one after the other, each by all threads of a team on its share of the outputs, with
// a barrier behind it. No result depends on how many rows or threads there are: every sum has an order
// of its own.
//
// What an operation does with a row is the decode step of its own folder: the arguments are a struct of its step.h,
// which a plan holds, and its step.cpp runs them. A plan knows of none of them.
#pragma once

#include <cstdint>

#include "../csrc/threads.h"
#include "../csrc/types.h"
#include "../linear/matrix.h"

namespace braidlm {

// Place of a buffer, in floats from the start of a row.
using Offset = int64_t;

inline constexpr int64_t kPagePositions = 128;  // as in spec/state.py
inline constexpr int64_t kSpanPages = 8;        // pages of keys that are attended as one piece of work

// What an operation reads, computed by every thread for itself.
struct Input {
  enum class Kind : uint8_t {
    kPlain,  // x
    kRms,    // rms_norm(x) weight
    kGated,  // rms_norm(x silu(other)) weight, over `groups` equal parts
    kMean,   // (rms_norm(x) weight + rms_norm(other) other_weight) / 2
    kSum,    // x + rms_norm(other) other_weight
  } kind;
  Offset x, other;
  int64_t width;
  const float *weight, *other_weight;
  float eps;
  bool eps_outside_root;
  int64_t groups;
};

// Where a product goes: y = scale (W x + bias), stored, added, or given to the caller as logits.
struct Output {
  enum class Kind : uint8_t { kStore, kAdd, kLogits } kind;
  Offset y;
  float scale;
};

enum class KvFormat : uint8_t { kFloat, kBFloat16, kHalf, kFp8, kInt8 };

struct KvShape {
  KvFormat format;
  int64_t heads, k_dim, v_dim;
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

// State tensors of the rows: that of row b is at base + slot[b] * stride.
struct StateTensor {
  void* base;
  Dtype dtype;
  int64_t stride;
};

struct BufferSlice {
  Offset at;
  int64_t width;
};

// What an operation with a recurrent state reads of a row. With it and an earlier state, a later one can be made
// again without the layers between. A record of it holds all operations' inputs back to back; this one's begin at
// `offset`.
struct RecurrenceInputs {
  static constexpr int kMost = 4;
  BufferSlice slices[kMost];
  int count;
  int64_t offset;
};

struct Pass;
struct Member;

struct Op {
  // Runs the operation by the kernels of a level; `args` is its struct.
  void (*run)(int level, const void* args, const Member&);
  const void* args;
  const RecurrenceInputs* inputs;  // null for operations that keep no recurrent state
};

// One pass.
struct Pass {
  enum class Kind : uint8_t {
    kPlain,
    kRecord,   // `record` gets the inputs of the recurrences
    kAdvance,  // only the recurrences run, on the inputs that `record` holds
  } kind;
  int level;  // of the kernels
  const Op* ops;
  int op_count;
  const KvShape* kv_shapes;
  int rows, sequences;
  const int* first_rows;                   // [sequences + 1]: of each sequence
  const int64_t *ids, *slots, *positions;  // [rows]; positions count meta tokens
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

// A thread of the team that runs a pass. Inlined, so that no instruction-set level uses another one's copy.
struct Member {
  const Pass& pass;
  Team& team;
  int number;

  [[gnu::always_inline]] char* scratch() const { return pass.scratch + number * pass.scratch_stride; }
  [[gnu::always_inline]] Range share_of(int64_t items, int64_t grain) const {
    return share(items, grain, team.size(), number);
  }
};

// Bytes of scratch that an operand of so many rows takes at most.
static inline int64_t operand_bytes(int64_t rows, int64_t width) { return rows * (width + 128) * 12 + 1024; }

}  // namespace braidlm
