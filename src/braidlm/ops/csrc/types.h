// Number formats and views that kernels and their callers share.
#pragma once

#include <cstdint>

namespace braidlm {

// Sixteen bits of a number: the upper half of a float (bfloat16), or an IEEE half.
struct BFloat16 {
  uint16_t bits;
};
struct Half {
  uint16_t bits;
};

enum class Dtype : uint8_t { kFloat, kBFloat16 };

// A table of numbers whose rows are contiguous and `stride` numbers apart.
struct Table {
  void* data;
  Dtype dtype;
  int64_t stride;
};

// Rows of equal length: [rows, tokens, channels], where `row` and `token` are strides in numbers and
// a token's channels are contiguous.
struct Sequence {
  void* data;
  Dtype dtype;
  int64_t row, token;
};

// Calls `body` with the row's address as a pointer to its real type.
template <class Body>
inline void with_row(const Table& table, int64_t row, Body body) {
  if (table.dtype == Dtype::kFloat)
    body(static_cast<float*>(table.data) + row * table.stride);
  else
    body(static_cast<BFloat16*>(table.data) + row * table.stride);
}

}  // namespace braidlm
