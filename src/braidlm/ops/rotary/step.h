// Rotary positions of one token, and its key and value.
#pragma once

#include "../plan/plan.h"

namespace braidlm {

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
  Offset cosines, sines;
};

// Rotates queries and the new key in place, and writes key and value into the row's last page.
struct AppendKv {
  Offset q, k, v;
  int64_t heads, rotated;  // query heads; dimensions that are rotated, 0 for none
  Offset cosines, sines;
  int kv;      // which keys and values
  bool owned;  // false: another layer's are used, only queries are rotated
};

struct RotaryStepKernels {
  void (*angles)(const Angles&, const Member&);
  void (*append_kv)(const AppendKv&, const Member&);
};

}  // namespace braidlm
