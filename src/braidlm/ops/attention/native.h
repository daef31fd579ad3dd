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
  Table q, y;    // [length, heads * key], [length, heads * value]
  Keys past, now;  // of one dtype with q, or all float
  int64_t length, start, heads, groups, key, value;
  int64_t window, pinned;  // window: not above kNoWindow
  float scale;
};

inline constexpr int64_t kNoWindow = 1 << 30;

struct AttentionKernels {
  // Blocks of queries: what the threads share.
  int64_t (*blocks)(const Attention&);
  // Floats of working memory that `forward` needs.
  int64_t (*scratch)(const Attention&);
  // Blocks [begin, end).
  void (*forward)(const Attention&, int64_t begin, int64_t end, float* scratch);
};

}  // namespace braidlm
