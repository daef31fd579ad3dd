// In which format the two products of attention take their operands: floats, or where the processor
// multiplies them, pairs of bfloat16 as 32-bit words.
#pragma once

#include "../csrc/matrix_unit.h"
#include "../csrc/product.h"
#include "../csrc/staging.h"

namespace braidlm::BRAIDLM_LEVEL {

// Keys that are attended together.
inline constexpr int64_t kKeys = 64;

struct FloatOperands {
  using Word = float;
  static constexpr int kNumbers = 1;       // of a word
  static constexpr int kRows = kTileRows;  // of a tile of queries
  static constexpr int kWords = 1;         // that a product's sums take at a time

  // Word `i` of `width` numbers.
  template <class T>
  static Word word(const T* from, int64_t i, int64_t) {
    return to_float(from[i]);
  }

  // Row `j` of a right operand from the values of token j.
  template <class T>
  static void values(const T* const* rows, int64_t j, int64_t, int64_t width, Word* to) {
    int64_t i = 0;
    for (; i + kSimdWidth <= width; i += kSimdWidth) store(to + i, load(rows[j] + i));
    if (i < width) store(to + i, load_part(rows[j] + i, int(width - i)));
  }

  static void weights(float* to, Floats p) { store(to, p); }

  // Numbers of rows `row` and row + 1, of rows of `of_row` words: a left operand that is summed over rows.
  static void two_rows(Word* to, int64_t row, int64_t of_row, Floats even, Floats odd) {
    store(to + row * of_row, even);
    store(to + (row + 1) * of_row, odd);
  }

  // acc(row, :) += sum over k < count of left[row * of_row + k] * right[k * of_k + :].
  static void multiply_add(Accumulators& acc, const Word* left, int64_t of_row, const Word* right, int64_t of_k,
                           int64_t count) {
    braidlm::BRAIDLM_LEVEL::multiply_add(acc, {left, of_row, 1}, right, of_k, count);
  }
};

#if defined(__AVX512BF16__)
struct PairOperands {
  using Word = uint32_t;
  static constexpr int kNumbers = 2;
  static constexpr int kRows = kTileRows;
  static constexpr int kWords = 1;

  static Word word(const BFloat16* from, int64_t i, int64_t width) {
    return from[2 * i].bits | (2 * i + 1 < width ? uint32_t(from[2 * i + 1].bits) << 16 : 0);
  }

  // Row `j` of a right operand: the values of tokens 2j and 2j + 1, of `count`, side by side.
  static void values(const BFloat16* const* rows, int64_t j, int64_t count, int64_t width, Word* to) {
    const bool both = 2 * j + 1 < count;
    for (int64_t i = 0; i < width; i += kSimdWidth) {
      const int active = int(width - i < kSimdWidth ? width - i : kSimdWidth);
      const Words even = bits_as<Words>(load_part(rows[2 * j] + i, active)) >> 16;
      const Words odd = both ? bits_as<Words>(load_part(rows[2 * j + 1] + i, active)) : Words{};
      const Words pair = even | odd;
      std::memcpy(to + i, &pair, sizeof pair);
    }
  }

  static void weights(Word* to, Floats p) {
    const __m256bh narrow = _mm512_cvtneps_pbh((__m512)p);
    std::memcpy(to, &narrow, sizeof narrow);
  }

  // `row` is even: both rows are one row of words.
  static void two_rows(Word* to, int64_t row, int64_t of_row, Floats even, Floats odd) {
    constexpr __mmask16 kAll = 0xffff;
    const __m512i low = _mm512_maskz_cvtepu16_epi32(kAll, (__m256i)_mm512_cvtneps_pbh((__m512)even));
    const __m512i high = _mm512_maskz_cvtepu16_epi32(kAll, (__m256i)_mm512_cvtneps_pbh((__m512)odd));
    const Words pair = (Words)low | (Words)high << 16;
    std::memcpy(to + row / 2 * of_row, &pair, sizeof pair);
  }

  static void multiply_add(Accumulators& acc, const Word* left, int64_t of_row, const Word* right, int64_t of_k,
                           int64_t count) {
    __m512 of[kTileRows][kTileVectors];
    unrolled<kTileRows>([&](auto r) { unrolled<kTileVectors>([&](auto v) { of[r][v] = (__m512)acc.of[r][v]; }); });
    for (int64_t k = 0; k < count; ++k, ++left, right += of_k) {
      __m512bh columns[kTileVectors];
      unrolled<kTileVectors>([&](auto v) { columns[v] = (__m512bh)load_as<Words>(right + v * kSimdWidth); });
      unrolled<kTileRows>([&](auto r) {
        const __m512bh factor = (__m512bh)_mm512_set1_epi32(int(left[r * of_row]));
        unrolled<kTileVectors>([&](auto v) { of[r][v] = _mm512_dpbf16_ps(of[r][v], factor, columns[v]); });
      });
    }
    unrolled<kTileRows>([&](auto r) { unrolled<kTileVectors>([&](auto v) { acc.of[r][v] = (Floats)of[r][v]; }); });
  }
};
#endif

#if defined(__AMX_BF16__)
// The same words, multiplied by the matrix unit.
struct UnitOperands : PairOperands {
  static constexpr int kRows = kUnitRows;
  static constexpr int kWords = kUnitPairs;
};
inline constexpr int kMostTileRows = kUnitRows;
#else
inline constexpr int kMostTileRows = kTileRows;
#endif

// Words that the sums over so many numbers take.
template <class Operands>
inline int64_t words_of_sum(int64_t numbers) {
  return padded((numbers + Operands::kNumbers - 1) / Operands::kNumbers, Operands::kWords);
}

// A product: kRows rows of words on the left and `count` of them on the right, a multiple of kWords; rows are `of_row`
// and `of_right` words apart.
template <class Operands>
struct Product {
  const typename Operands::Word* left;
  int64_t of_row;
  const typename Operands::Word* right;
  int64_t of_right, count;
};

// What a product's sums begin with: nothing, what is there, or that times a factor a row.
struct From {
  bool nothing;
  const float* factors = nullptr;
};

// to(row, :) = `from` + left(row, :) right, for kRows rows and `columns` columns, a multiple of kTileColumns.
template <class Operands>
inline void multiply(const Product<Operands>& p, From from, float* to, int64_t of_row, int64_t columns) {
  for (int64_t i = 0; i < columns; i += kTileColumns) {
    Accumulators acc = {};
    if (!from.nothing) load_scaled(acc, 1, to + i, of_row);
    if (from.factors) scale_rows(acc, from.factors);
    Operands::multiply_add(acc, p.left, p.of_row, p.right + i, p.of_right, p.count);
    store(to + i, of_row, acc);
  }
}

#if defined(__AMX_BF16__)
template <>
inline void multiply(const Product<UnitOperands>& p, From from, float* to, int64_t of_row, int64_t columns) {
  using Unit = MatrixUnit;
  for (int r = 0; from.factors && r < kUnitRows; ++r)
    if (const float factor = from.factors[r]; factor != 1)
      for (float* x = to + r * of_row; x < to + r * of_row + columns; x += kSimdWidth) store(x, load(x) * factor);
  for (int64_t i = 0; i < columns; i += kUnitRows) {
    if (from.nothing)
      Unit::zero<Unit::kSums>();
    else
      Unit::load<Unit::kSums>(to + i, of_row * 4);
    for (int64_t k = 0; k < p.count; k += kUnitPairs) {
      Unit::load<Unit::kLeft>(p.left + k, p.of_row * 4);
      Unit::load<Unit::kRight>(p.right + k * p.of_right + i, p.of_right * 4);
      Unit::multiply_add<Unit::kSums, Unit::kRight>();
    }
    Unit::store<Unit::kSums>(to + i, of_row * 4);
  }
}
#endif

}  // namespace braidlm::BRAIDLM_LEVEL
