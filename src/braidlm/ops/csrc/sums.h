// Sums of what threads computed apart, in an order that does not depend on how many there were.
#pragma once

#include "threads.h"

namespace braidlm {

// to[i] = partial[0][i] + partial[1][i] + ..., of `count` partial sums of `size` numbers.
static inline void sum_partials(float* to, const float* partial, int64_t count, int64_t size, int threads) {
  constexpr int64_t kTogether = 2048;  // sums that stay in the first-level cache
  parallel_for(threads, size, kTogether, [&](int64_t begin, int64_t end) {
    for (int64_t first = begin; first < end; first += kTogether) {
      const int64_t last = first + kTogether < end ? first + kTogether : end;
      for (int64_t i = first; i < last; ++i) to[i] = 0;
      for (int64_t k = 0; k < count; ++k)
        for (int64_t i = first; i < last; ++i) to[i] += partial[k * size + i];
    }
  });
}

}  // namespace braidlm
