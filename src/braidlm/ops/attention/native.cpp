// Blocks of queries against blocks of keys with a running softmax (Milakov and Gimelshein 2018, Dao
// et al. 2022): scores exist for one register tile of queries and one block of keys at a time. All
// query heads that share a key head go through a block of keys together, so that it is laid out once.
#include "native.h"

#include "../csrc/exp2.h"
#include "../csrc/staging.h"
#include "keys.h"

namespace braidlm::BRAIDLM_LEVEL {
namespace {

// Queries times heads of a block: enough that laying out the keys costs little beside the products.
constexpr int64_t kBlockRows = 256;
constexpr float kNone = -__builtin_inff();

int64_t tokens_of_block(const Attention& op) {
  const int64_t share = op.heads / op.groups;
  return padded((kBlockRows + share - 1) / share, kMostTileRows);
}

int64_t blocks_of_row(const Attention& op) { return (op.length + tokens_of_block(op) - 1) / tokens_of_block(op); }

int64_t blocks(const Attention& op) { return op.groups * blocks_of_row(op); }

// A block of queries: its tokens, padded to whole tiles, of each head that shares the key head.
struct Queries {
  int64_t group, token, tokens, padded_tokens;
  int64_t first, last;  // positions
};

// Working memory; widths are in words of the operands.
template <class Operands>
struct Memory {
  using Word = typename Operands::Word;
  Word *q, *k, *v, *p;  // [rows, key], [key, kKeys], [kKeys, value], [kRows, kKeys]
  float* scores;        // [kRows, kKeys]
  float* y;             // [rows, value]: weighted values
  float* most;          // [rows]: the greatest score
  float* total;         // [rows, kSimdWidth]: sums of weights
  int64_t key, value;

  Memory(float* memory, const Attention& op)
      : key(words_of_sum<Operands>(op.key)), value(padded(op.value, kTileColumns)) {
    const int64_t rows = op.heads / op.groups * tokens_of_block(op);
    const auto take = [&memory](int64_t count) {
      float* const taken = memory;
      memory += padded(count, 16);
      return taken;
    };
    q = reinterpret_cast<Word*>(take(rows * key));
    k = reinterpret_cast<Word*>(take(kKeys * key));
    v = reinterpret_cast<Word*>(take(kKeys * value));
    p = reinterpret_cast<Word*>(take(Operands::kRows * kKeys));
    scores = take(Operands::kRows * kKeys);
    y = take(rows * value);
    most = take(rows);
    total = take(rows * kSimdWidth);
  }
};

int64_t scratch(const Attention& op) {
  const int64_t rows = op.heads / op.groups * tokens_of_block(op), value = padded(op.value, kTileColumns);
  const int64_t key = padded(op.key, kMostTileRows);  // no format takes more words
  return rows * (key + value + 1 + kSimdWidth) + kKeys * (key + value + 2 * kMostTileRows) + 8 * 16;
}

template <class Operands, class T>
void lay_out_keys(const Attention& op, const Keys& keys, int64_t begin, int64_t count, int64_t group,
                  const Memory<Operands>& memory) {
  lay_out_turned<Operands, T>({keys.k, begin, count, group * op.key, op.key}, memory.k);
  lay_out_rows<Operands, T>({keys.v, begin, count, group * op.value, op.value}, memory.v, memory.value);
  clear_rest<Operands>(memory.v, memory.value, count);
}

template <class Operands, class T>
void lay_out_queries(const Attention& op, const Queries& queries, const Memory<Operands>& memory) {
  const int64_t share = op.heads / op.groups, rows = share * queries.padded_tokens;
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t t = r % queries.padded_tokens, head = queries.group * share + r / queries.padded_tokens;
    auto* to = memory.q + r * memory.key;
    const bool held = t < queries.tokens;
    const T* from = static_cast<const T*>(op.q.data) + (queries.token + (held ? t : 0)) * op.q.stride + head * op.key;
    for (int64_t i = 0; i < memory.key; ++i)
      to[i] = held && i * Operands::kNumbers < op.key ? Operands::word(from, i, op.key) : 0;
  }
  std::memset(memory.y, 0, rows * memory.value * sizeof(float));
  std::memset(memory.total, 0, rows * kSimdWidth * sizeof(float));
  for (int64_t r = 0; r < rows; ++r) memory.most[r] = kNone;
}

inline float greatest(Floats v) {
#if defined(__AVX512F__)
  return _mm512_reduce_max_ps((__m512)v);
#else
  return max(v);
#endif
}

// One row of scores becomes weights; returns what the row's earlier sums are to be scaled by.
template <class Operands>
float weigh(const Attention& op, const KeyBlock& keys, bool masked, int64_t position, int64_t columns, float* scores,
            float& most, float* total, typename Operands::Word* p) {
  const float unit = op.scale * kLog2E;
  Floats top = broadcast(kNone);
  for (int64_t j = 0; j < columns; j += kSimdWidth) {
    Floats s = load(scores + j) * unit;
    if (masked) s = seen(op, keys.positions + j, position) ? s : broadcast(kNone);
    store(scores + j, s);
    top = max(s, top);
  }
  const float here = greatest(top), now = here > most ? here : most;
  const float base = now == kNone ? 0 : now;  // nothing seen yet: all weights are zero
  Floats sums = {};
  for (int64_t j = 0; j < columns; j += kSimdWidth) {
    const Floats weight = exp2(load(scores + j) - base);
    sums += weight;
    Operands::weights(p + j / Operands::kNumbers, weight);
  }
  const float shrink = exp2(most - base);
  most = now;
  store(total, load(total) * shrink + sums);
  return shrink;
}

// A tile of queries, from `row` of the block on, against a block of keys.
template <class Operands>
void tile(const Attention& op, const KeyBlock& keys, const Memory<Operands>& memory, int64_t row, int64_t position) {
  constexpr int kRows = Operands::kRows;
  const int64_t last = position + kRows - 1;
  if (!any_seen(op, keys, position, last)) return;
  const bool all = all_seen(op, keys, position, last);
  // Keys behind the last query need no product where they stand in a row.
  const bool adjacent = keys.last - keys.first == keys.count - 1;
  const int64_t near = adjacent && last < keys.last ? last - keys.first + 1 : keys.count;
  const int64_t columns = padded(near, kTileColumns), width = kKeys / Operands::kNumbers;
  multiply<Operands>({memory.q + row * memory.key, memory.key, memory.k, kKeys, memory.key}, {.nothing = true},
                     memory.scores, kKeys, columns);
  float shrink[kRows];
  for (int r = 0; r < kRows; ++r)
    shrink[r] = weigh<Operands>(op, keys, !(all && columns == near), position + r, columns, memory.scores + r * kKeys,
                                memory.most[row + r], memory.total + (row + r) * kSimdWidth, memory.p + r * width);
  multiply<Operands>({memory.p, width, memory.v, memory.value, words_of_sum<Operands>(near)},
                     {.nothing = false, .factors = shrink}, memory.y + row * memory.value, memory.value, memory.value);
}

template <class Operands, class T>
void block(const Attention& op, const Queries& queries, const Memory<Operands>& memory) {
  const int64_t share = op.heads / op.groups;
  lay_out_queries<Operands, T>(op, queries, memory);
  for (const Keys* keys : {&op.past, &op.now})
    for (int64_t j = 0; j < keys->count; j += kKeys) {
      KeyBlock found;
      place(*keys, j, j + kKeys < keys->count ? j + kKeys : keys->count, found);
      if (!any_seen(op, found, queries.first, queries.last)) continue;
      lay_out_keys<Operands, T>(op, *keys, j, found.count, queries.group, memory);
      for (int64_t head = 0; head < share; ++head)
        for (int64_t t = 0; t < queries.tokens; t += Operands::kRows)
          tile(op, found, memory, head * queries.padded_tokens + t, queries.first + t);
    }
  for (int64_t head = 0; head < share; ++head)
    for (int64_t t = 0; t < queries.tokens; ++t) {
      const int64_t r = head * queries.padded_tokens + t;
      const float total = sum(load(memory.total + r * kSimdWidth)), unit = 1 / total;
      if (op.lse.data)
        static_cast<float*>(op.lse.data)[(queries.group * share + head) * op.lse.stride + queries.token + t] =
            memory.most[r] + __builtin_log2f(total);
      float* y = memory.y + r * memory.value;
      for (int64_t i = 0; i < memory.value; i += kSimdWidth) store(y + i, load(y + i) * unit);
      const Sequence to = {op.y.data, op.y.dtype, 0, op.y.stride};
      write(to, {0, queries.token + t, 1, (queries.group * share + head) * op.value, op.value}, y, memory.value);
    }
}

template <class Operands, class T>
void run(const Attention& op, int64_t begin, int64_t end, float* scratch) {
  const Memory<Operands> memory(scratch, op);
  const int64_t in_row = blocks_of_row(op), size = tokens_of_block(op);
  for (int64_t i = begin; i < end; ++i) {
    // Late blocks see more keys than early ones: taken in turns from both ends, so that any
    // contiguous share of the blocks is about the same work.
    const int64_t turn = i % in_row, at = turn % 2 ? in_row - 1 - turn / 2 : turn / 2, token = at * size;
    const int64_t tokens = op.length - token < size ? op.length - token : size;
    const int64_t first = op.start + token;
    const int64_t whole = padded(tokens, kMostTileRows);
    block<Operands, T>(op, {i / in_row, token, tokens, whole, first, first + tokens - 1}, memory);
  }
}

void forward(const Attention& op, int64_t begin, int64_t end, float* scratch) {
  if (op.q.dtype == Dtype::kFloat) return run<FloatOperands, float>(op, begin, end, scratch);
#if defined(__AMX_BF16__)
  const MatrixUnit shaped;
  return run<UnitOperands, BFloat16>(op, begin, end, scratch);
#elif defined(__AVX512BF16__)
  return run<PairOperands, BFloat16>(op, begin, end, scratch);
#else
  return run<FloatOperands, BFloat16>(op, begin, end, scratch);
#endif
}

}  // namespace

extern const AttentionNativeKernels attention_native;
const AttentionNativeKernels attention_native = {blocks, scratch, forward};

}  // namespace braidlm::BRAIDLM_LEVEL
