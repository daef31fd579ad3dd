// Blocks of keys: where they stand, which queries see them, and how products take them.
#pragma once

#include "native.h"
#include "operands.h"

namespace braidlm::BRAIDLM_LEVEL {

inline constexpr int32_t kNowhere = INT32_MAX;  // the position of a key that does not exist: nobody sees it

// A block of keys and where they stand.
struct KeyBlock {
  int64_t count, first, last;  // first and last position
  alignas(64) int32_t positions[kKeys];
};

// The number of positions in [begin, end) of `keys`, and those positions.
inline void place(const Keys& keys, int64_t begin, int64_t end, KeyBlock& block) {
  block.count = end - begin;
  for (int64_t j = 0; j < kKeys; ++j) {
    const int64_t i = begin + j;
    block.positions[j] = i >= end ? kNowhere : int32_t(keys.positions ? keys.positions[i] : keys.first + i);
  }
  block.first = block.positions[0];
  block.last = block.positions[block.count - 1];
}

// Whether any query of positions [first, last] sees any of the keys, and whether all of them see all.
inline bool any_seen(const Attention& op, const KeyBlock& keys, int64_t first, int64_t last) {
  return keys.first <= last && (keys.last > first - op.window || keys.first < op.sink_tokens);
}
inline bool all_seen(const Attention& op, const KeyBlock& keys, int64_t first, int64_t last) {
  return keys.last <= first && (keys.first > last - op.window || keys.last < op.sink_tokens);
}

// Which keys of a vector of positions the query at `position` sees.
inline Ints seen(const Attention& op, const int32_t* positions, int64_t position) {
  const Ints at = load_as<Ints>(positions);
  return (at <= int32_t(position)) & ((at > int32_t(position - op.window)) | (at < int32_t(op.sink_tokens)));
}

// Up to kKeys consecutive tokens of one head, `width` numbers each.
template <class T>
struct Tokens {
  const T* rows[kKeys];
  int64_t count, width;

  Tokens(const Table& table, int64_t begin, int64_t count, int64_t column, int64_t width) : count(count), width(width) {
    for (int64_t j = 0; j < count; ++j)
      rows[j] = static_cast<const T*>(table.data) + (begin + j) * table.stride + column;
  }
};

// Zeros where a sum takes more rows of words than those that so many numbers fill.
template <class Operands, class Word>
void clear_rest(Word* rows, int64_t of_row, int64_t numbers) {
  const int64_t used = (numbers + Operands::kNumbers - 1) / Operands::kNumbers;
  std::memset(rows + used * of_row, 0, (words_of_sum<Operands>(numbers) - used) * of_row * sizeof(Word));
}

// Word `i` of token j to to[i * kKeys + j], zero beyond the tokens: a right operand that is summed over
// a head's numbers.
template <class Operands, class T>
void lay_out_turned(const Tokens<T>& tokens, typename Operands::Word* to) {
  clear_rest<Operands>(to, kKeys, tokens.width);
  for (int64_t i = 0; i * Operands::kNumbers < tokens.width; ++i, to += kKeys) {
    for (int64_t j = 0; j < tokens.count; ++j) to[j] = Operands::word(tokens.rows[j], i, tokens.width);
    for (int64_t j = tokens.count; j < kKeys; ++j) to[j] = 0;
  }
}

// Rows of `stride` words, of which each holds the numbers of kNumbers tokens: a right operand that is
// summed over tokens.
template <class Operands, class T>
void lay_out_rows(const Tokens<T>& tokens, typename Operands::Word* to, int64_t stride) {
  for (int64_t j = 0; j * Operands::kNumbers < tokens.count; ++j)
    Operands::values(tokens.rows, j, tokens.count, tokens.width, to + j * stride);
}

}  // namespace braidlm::BRAIDLM_LEVEL
