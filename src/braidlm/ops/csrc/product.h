// Small matrix products whose result stays in registers while the inner dimension goes by.
#pragma once

#include "vec.h"

namespace braidlm::BRAIDLM_LEVEL {

// A register tile: as many rows and vectors of a row as hide the latency of a multiply-add and
// leave registers for the operands.
inline constexpr int kTileRows = kSimdWidth == 16 ? 8 : 4;
inline constexpr int kTileVectors = 2;
inline constexpr int64_t kTileColumns = kTileVectors * kSimdWidth;

struct Accumulators {
  Floats of[kTileRows][kTileVectors];
};

// A left operand: element (row, k) is at[row * of_row + k * of_k].
struct Left {
  const float* at;
  int64_t of_row, of_k;
};

// acc(row, :) += sum over k < count of left(row, k) * right[k * of_k + :].
inline void multiply_add(Accumulators& acc, const Left& left, const float* right, int64_t of_k, int64_t count) {
  Floats of[kTileRows][kTileVectors];
  unrolled<kTileRows>([&](auto r) { unrolled<kTileVectors>([&](auto v) { of[r][v] = acc.of[r][v]; }); });
  const float* at = left.at;
  for (int64_t k = 0; k < count; ++k, at += left.of_k, right += of_k) {
    Floats columns[kTileVectors];
    unrolled<kTileVectors>([&](auto v) { columns[v] = load(right + v * kSimdWidth); });
    unrolled<kTileRows>([&](auto r) {
      const Floats factor = broadcast(at[r * left.of_row]);
      unrolled<kTileVectors>([&](auto v) { of[r][v] = fma(factor, columns[v], of[r][v]); });
    });
  }
  unrolled<kTileRows>([&](auto r) { unrolled<kTileVectors>([&](auto v) { acc.of[r][v] = of[r][v]; }); });
}

// acc(row, :) *= factors[row].
inline void scale_rows(Accumulators& acc, const float* factors) {
  unrolled<kTileRows>([&](auto r) { unrolled<kTileVectors>([&](auto v) { acc.of[r][v] *= factors[r]; }); });
}

inline void add(Accumulators& acc, const Accumulators& more) {
  unrolled<kTileRows>([&](auto r) { unrolled<kTileVectors>([&](auto v) { acc.of[r][v] += more.of[r][v]; }); });
}

// acc(row, :) = factor * from[row * of_row + :].
inline void load_scaled(Accumulators& acc, float factor, const float* from, int64_t of_row) {
  unrolled<kTileRows>([&](auto r) {
    unrolled<kTileVectors>([&](auto v) { acc.of[r][v] = factor * load(from + r * of_row + v * kSimdWidth); });
  });
}

inline void store(float* to, int64_t of_row, const Accumulators& acc) {
  unrolled<kTileRows>(
      [&](auto r) { unrolled<kTileVectors>([&](auto v) { store(to + r * of_row + v * kSimdWidth, acc.of[r][v]); }); });
}

}  // namespace braidlm::BRAIDLM_LEVEL
