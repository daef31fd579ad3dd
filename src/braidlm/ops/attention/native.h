// Causal attention of one row's new tokens; see the package for which keys a query sees.
#pragma once

#include "../csrc/types.h"

namespace braidlm {

// Keys and values of consecutive tokens: k [count, groups * key], v [count, groups * value].
struct Keys {
  Table k, v;
  const int64_t* positions;  // increasing; null: first, first + 1, ...
  int64_t first, count;
};

struct Attention {
  Table q, y;      // [length, heads * key], [length, heads * value]
  Keys past, now;  // of one dtype with q, or all float
  int64_t length, start, heads, groups, key, value;
  int64_t window, sink_tokens;  // window: not above kNoWindow
  float scale;
  // Of each head and query, [heads, length] floats: the logarithm to base 2 of the sum of the weights
  // before they are divided by it. Null where nobody asks for it.
  Table lse;
};

// Gradients. Those of keys and values are sums over heads, which `parts` tasks of each key head compute apart.
struct AttentionGradients {
  Table dy;                           // [length, heads * value], of q's dtype
  Table dq;                           // [length, heads * key] floats, zero at first
  Sequence dk, dv, past_dk, past_dv;  // [parts, count, groups * key] and [parts, count, groups * value] floats
  int64_t parts;                      // divides heads / groups
};

inline constexpr int64_t kNoWindow = 1 << 30;

struct AttentionNativeKernels {
  // Blocks of queries: what the threads share.
  int64_t (*blocks)(const Attention&);
  // Floats of working memory that `forward` needs.
  int64_t (*scratch)(const Attention&);
  // Blocks [begin, end).
  void (*forward)(const Attention&, int64_t begin, int64_t end, float* scratch);
};

struct AttentionBackwardKernels {
  // Floats of working memory that `backward` needs.
  int64_t (*scratch)(const Attention&);
  // Tasks [begin, end) of groups * parts. `op` has the outputs y and `lse` of the forward pass.
  void (*backward)(const Attention& op, const AttentionGradients&, int64_t begin, int64_t end, float* scratch);
};

}  // namespace braidlm
