// Gradients by blocks of queries and keys (Dao 2023, FlashAttention-2): the weights of a block are
// computed again from its scores and each query's logarithm of their sum, so nothing of the size
// queries times keys is kept. With delta_i = dY_i . Y_i,
//
//   P = exp(scale Q K^T - lse)               dV = P^T dY
//   dS = scale P (dY V^T - delta)            dQ = dS K        dK = dS^T Q
//
// A task has some heads of one key head, and all tokens: it alone adds to their dQ, in one order.
#include "../csrc/exp2.h"
#include "../csrc/by_vectors.h"
#include "../csrc/staging.h"
#include "keys.h"
#include "native.h"

namespace braidlm::BRAIDLM_LEVEL {
namespace {

// Queries of a block, and blocks of keys that are laid out, and whose gradients are added up, together:
// enough that laying out the queries costs little beside the products.
constexpr int64_t kQueries = 64, kBlocks = 4;

template <class Operands>
struct Tiles {
  using Word = typename Operands::Word;
  static constexpr int64_t kNumbers = Operands::kNumbers;
  int64_t key, value;                  // words that sums over a head's numbers take
  int64_t key_columns, value_columns;  // those numbers, padded to whole tiles
  // Of each block of keys: [key, kKeys], [value, kKeys], [kKeys / kNumbers, key_columns].
  Word *k_turned, *v_turned, *k_rows;
  float *dk, *dv;              // of each block of keys, [key_columns, kKeys] and [value_columns, kKeys]
  float* turned;               // one of them, [kKeys, columns]
  Word *q, *dy;                // [kQueries, key] and [kQueries, value]
  Word *q_turned, *dy_turned;  // [key_columns, kQueries / kNumbers] and [value_columns, ..]
  Word *p_turned, *ds_turned;  // [kQueries / kNumbers, kKeys]
  Word* ds;                    // [kQueries, kKeys / kNumbers]
  float *scores, *dp;          // [kQueries, kKeys]
  float* dq;                   // [kQueries, key_columns]
  float *lse, *delta;          // [kQueries]
  int64_t size = 0;            // floats of all of them

  Tiles(float* memory, const Attention& op)
      : key(words_of_sum<Operands>(op.key)),
        value(words_of_sum<Operands>(op.value)),
        key_columns(padded(op.key, kTileColumns)),
        value_columns(padded(op.value, kTileColumns)) {
    const auto take = [this, memory](auto*& to, int64_t count) {
      to = memory ? reinterpret_cast<std::remove_reference_t<decltype(to)>>(memory + size) : nullptr;
      size += padded(count, 16);
    };
    take(k_turned, kBlocks * key * kKeys);
    take(v_turned, kBlocks * value * kKeys);
    take(k_rows, kBlocks * kKeys / kNumbers * key_columns);
    take(dk, kBlocks * kKeys * key_columns);
    take(dv, kBlocks * kKeys * value_columns);
    take(q, kQueries * key);
    take(dy, kQueries * value);
    take(turned, kKeys * (key_columns > value_columns ? key_columns : value_columns));
    take(q_turned, kQueries / kNumbers * key_columns);
    take(dy_turned, kQueries / kNumbers * value_columns);
    for (Word** square : {&p_turned, &ds_turned, &ds}) take(*square, kQueries * kKeys / kNumbers);
    for (float** square : {&scores, &dp}) take(*square, kQueries * kKeys);
    take(dq, kQueries * key_columns);
    for (float** one : {&lse, &delta}) take(*one, kQueries);
  }
};

int64_t scratch(const Attention& op) {
#if defined(__AMX_BF16__)
  const int64_t words = Tiles<UnitOperands>(nullptr, op).size;
#else
  const int64_t words = 0;
#endif
  const int64_t floats = Tiles<FloatOperands>(nullptr, op).size;
  return floats > words ? floats : words;
}

// A block of queries of one head.
struct Queries {
  int64_t head, token, tokens;
  int64_t first, last;  // positions
};

// Left operands of sums over a head's numbers: rows of `words`, zero from the last token on.
template <class Operands, class T>
void lay_out_left(const Tokens<T>& tokens, typename Operands::Word* to, int64_t words) {
  std::memset(to, 0, kQueries * words * sizeof *to);
  for (int64_t t = 0; t < tokens.count; ++t, to += words)
    for (int64_t i = 0; i * Operands::kNumbers < tokens.width; ++i)
      to[i] = Operands::word(tokens.rows[t], i, tokens.width);
}

// Left operands of sums over queries: a row for each of a head's numbers, zero from the last token on. `row` has room
// for one of `columns` words.
template <class Operands, class T>
void lay_out_left_turned(const Tokens<T>& tokens, typename Operands::Word* to, int64_t columns,
                         typename Operands::Word* row) {
  constexpr int64_t kWide = kQueries / Operands::kNumbers;
  std::memset(to, 0, columns * kWide * sizeof *to);
  for (int64_t j = 0; j * Operands::kNumbers < tokens.count; ++j) {
    Operands::values(tokens.rows, j, tokens.count, tokens.width, row);
    for (int64_t i = 0; i < tokens.width; ++i) to[i * kWide + j] = row[i];
  }
}

template <class Operands, class T>
void lay_out_queries(const Attention& op, const AttentionGradients& grad, const Queries& queries,
                     const Tiles<Operands>& tiles) {
  const Tokens<T> q(op.q, queries.token, queries.tokens, queries.head * op.key, op.key);
  const Tokens<T> y(op.y, queries.token, queries.tokens, queries.head * op.value, op.value);
  const Tokens<T> dy(grad.dy, queries.token, queries.tokens, queries.head * op.value, op.value);
  lay_out_left<Operands>(q, tiles.q, tiles.key);
  lay_out_left<Operands>(dy, tiles.dy, tiles.value);
  auto* const row = reinterpret_cast<typename Operands::Word*>(tiles.turned);
  lay_out_left_turned<Operands>(q, tiles.q_turned, tiles.key_columns, row);
  lay_out_left_turned<Operands>(dy, tiles.dy_turned, tiles.value_columns, row);
  const float* lse = static_cast<const float*>(op.lse.data) + queries.head * op.lse.stride + queries.token;
  for (int64_t t = 0; t < kQueries; ++t) tiles.lse[t] = t < queries.tokens ? lse[t] : 0;
  for (int64_t t = 0; t < kQueries; ++t) tiles.delta[t] = 0;
  for (int64_t t = 0; t < queries.tokens; ++t) {
    Floats dots = {};
    by_vectors(0, op.value,
               [&](int64_t i, int active) { dots += at(y.rows[t] + i, active) * at(dy.rows[t] + i, active); });
    tiles.delta[t] = sum(dots);
  }
  std::memset(tiles.dq, 0, kQueries * tiles.key_columns * sizeof(float));
}

// A left operand, [rows, of_row] words, of which sums take `count`.
template <class Word>
struct LeftWords {
  const Word* at;
  int64_t rows, of_row, count;
};

// to [rows, columns] = `from` + left right [count, columns].
template <class Operands, class Word>
void product(const LeftWords<Word>& left, const Word* right, int64_t columns, From from, float* to) {
  for (int64_t r = 0; r < left.rows; r += Operands::kRows)
    multiply<Operands>({left.at + r * left.of_row, left.of_row, right, columns, left.count}, from, to + r * columns,
                       columns, columns);
}

// From scores and products of dY with the values to weights and the gradients of the scores.
template <class Operands>
void weigh(const Attention& op, const Queries& queries, const KeyBlock& keys, const Tiles<Operands>& tiles,
           int64_t rows) {
  constexpr int64_t kNumbers = Operands::kNumbers;
  const bool masked = keys.count < kKeys || !all_seen(op, keys, queries.first, queries.last);
  const float unit = op.scale * kLog2E;
  for (int64_t r = 0; r < rows; r += 2)
    for (int64_t j = 0; j < kKeys; j += kSimdWidth) {
      Floats p[2], ds[2];
      unrolled<2>([&](auto k) {
        const int64_t i = (r + k) * kKeys + j;
        Floats s = fma(load(tiles.scores + i), broadcast(unit), broadcast(-tiles.lse[r + k]));
        if (masked) s = seen(op, keys.positions + j, queries.first + r + k) ? s : broadcast(-__builtin_inff());
        p[k] = exp2(s);
        ds[k] = p[k] * ((load(tiles.dp + i) - tiles.delta[r + k]) * op.scale);
        Operands::weights(tiles.ds + i / kNumbers, ds[k]);
      });
      Operands::two_rows(tiles.p_turned + j, r, kKeys, p[0], p[1]);
      Operands::two_rows(tiles.ds_turned + j, r, kKeys, ds[0], ds[1]);
    }
}

// A block of queries against block `b` of the keys that are laid out.
template <class Operands>
void pair(const Attention& op, const Queries& queries, const KeyBlock& keys, int64_t b, const Tiles<Operands>& tiles) {
  using Word = typename Operands::Word;
  constexpr int64_t kNumbers = Operands::kNumbers, kQueryWords = kQueries / kNumbers, kKeyWords = kKeys / kNumbers;
  constexpr int64_t kSummed = kNumbers * Operands::kWords, kStep = kSummed < kTileRows ? kTileRows : kSummed;
  static_assert(kStep % 2 == 0 && kStep % Operands::kRows == 0 && kQueries % kStep == 0 && kKeys % kSummed == 0);
  static_assert(kTileColumns % Operands::kRows == 0 && kKeys % kTileColumns == 0 && kQueries <= kKeys);
  constexpr From kNothing = {.nothing = true}, kThere = {.nothing = false};
  const int64_t rows = padded(queries.tokens, kStep), key = tiles.key_columns, value = tiles.value_columns;
  product<Operands>(LeftWords<Word>{tiles.q, rows, tiles.key, tiles.key}, tiles.k_turned + b * tiles.key * kKeys, kKeys,
                    kNothing, tiles.scores);
  product<Operands>(LeftWords<Word>{tiles.dy, rows, tiles.value, tiles.value}, tiles.v_turned + b * tiles.value * kKeys,
                    kKeys, kNothing, tiles.dp);
  weigh(op, queries, keys, tiles, rows);
  const int64_t sums = rows / kNumbers;
  product<Operands>(LeftWords<Word>{tiles.dy_turned, value, kQueryWords, sums}, tiles.p_turned, kKeys, kThere,
                    tiles.dv + b * kKeys * value);
  product<Operands>(LeftWords<Word>{tiles.q_turned, key, kQueryWords, sums}, tiles.ds_turned, kKeys, kThere,
                    tiles.dk + b * kKeys * key);
  product<Operands>(LeftWords<Word>{tiles.ds, rows, kKeyWords, kKeyWords}, tiles.k_rows + b * kKeyWords * key, key,
                    kThere, tiles.dq);
}

// Blocks of keys that are laid out together.
struct KeyBlocks {
  int64_t begin, count, used;  // the first key, keys, blocks
  KeyBlock of[kBlocks];
};

template <class Operands, class T>
void lay_out_keys(const Attention& op, const Keys& keys, int64_t group, const KeyBlocks& blocks,
                  const Tiles<Operands>& tiles) {
  constexpr int64_t kNumbers = Operands::kNumbers;
  for (int64_t b = 0; b < blocks.used; ++b) {
    const int64_t begin = blocks.begin + b * kKeys, count = blocks.of[b].count;
    const Tokens<T> k(keys.k, begin, count, group * op.key, op.key);
    auto* const rows = tiles.k_rows + b * kKeys / kNumbers * tiles.key_columns;
    lay_out_turned<Operands>(k, tiles.k_turned + b * tiles.key * kKeys);
    lay_out_turned<Operands>(Tokens<T>(keys.v, begin, count, group * op.value, op.value),
                             tiles.v_turned + b * tiles.value * kKeys);
    std::memset(rows, 0, kKeys / kNumbers * tiles.key_columns * sizeof *rows);
    lay_out_rows<Operands>(k, rows, tiles.key_columns);
  }
  std::memset(tiles.dk, 0, blocks.used * kKeys * tiles.key_columns * sizeof(float));
  std::memset(tiles.dv, 0, blocks.used * kKeys * tiles.value_columns * sizeof(float));
}

void add_to(const Table& table, const Queries& queries, int64_t column, int64_t width, const float* from,
            int64_t of_row) {
  for (int64_t t = 0; t < queries.tokens; ++t) {
    float* const to = static_cast<float*>(table.data) + (queries.token + t) * table.stride + column;
    const float* const more = from + t * of_row;
    by_vectors(0, width, [&](int64_t i, int active) { put(to + i, active, at(to + i, active) + load(more + i)); });
  }
}

// One head's queries against keys that are laid out.
template <class Operands, class T>
void queries_of_head(const Attention& op, const AttentionGradients& grad, int64_t head, const KeyBlocks& blocks,
                     const Tiles<Operands>& tiles) {
  const int64_t first = blocks.of[0].first - op.start, last = blocks.of[blocks.used - 1].last - op.start;
  // No query before the first key sees it; none a window behind the last one sees it, unless it is sink_tokens.
  const int64_t begin = first < 0 ? 0 : first / kQueries * kQueries;
  const int64_t behind = last + op.window, seen_to = blocks.of[0].first < op.sink_tokens ? op.length : behind;
  for (int64_t t = begin; t < op.length && t < seen_to; t += kQueries) {
    const int64_t tokens = op.length - t < kQueries ? op.length - t : kQueries;
    const Queries queries = {head, t, tokens, op.start + t, op.start + t + tokens - 1};
    bool laid_out = false;
    for (int64_t b = 0; b < blocks.used; ++b) {
      if (!any_seen(op, blocks.of[b], queries.first, queries.last)) continue;
      if (!laid_out) lay_out_queries<Operands, T>(op, grad, queries, tiles);
      laid_out = true;
      pair(op, queries, blocks.of[b], b, tiles);
    }
    if (laid_out) add_to(grad.dq, queries, head * op.key, op.key, tiles.dq, tiles.key_columns);
  }
}

// Writes `from` [columns, kKeys] as rows of tokens.
void write_turned(const Sequence& to, const Part& part, const float* from, int64_t columns, float* turned) {
  for (int64_t t = 0; t < part.tokens; ++t)
    for (int64_t i = 0; i < part.channels; ++i) turned[t * columns + i] = from[i * kKeys + t];
  write(to, part, turned, columns);
}

struct Task {
  int64_t group, part;
};

template <class Operands, class T>
void keys_of_task(const Attention& op, const AttentionGradients& grad, const Task& task, const Keys& keys,
                  const Sequence& dk, const Sequence& dv, const Tiles<Operands>& tiles) {
  const int64_t share = op.heads / op.groups, heads = share / grad.parts;
  const int64_t first = task.group * share + task.part * heads;
  for (int64_t j = 0; j < keys.count; j += kBlocks * kKeys) {
    KeyBlocks blocks = {j, keys.count - j < kBlocks * kKeys ? keys.count - j : kBlocks * kKeys, 0, {}};
    for (int64_t i = j; i < j + blocks.count; i += kKeys)
      place(keys, i, i + kKeys < keys.count ? i + kKeys : keys.count, blocks.of[blocks.used++]);
    lay_out_keys<Operands, T>(op, keys, task.group, blocks, tiles);
    for (int64_t head = first; head < first + heads; ++head)
      queries_of_head<Operands, T>(op, grad, head, blocks, tiles);
    for (int64_t b = 0; b < blocks.used; ++b) {
      const int64_t begin = j + b * kKeys, count = blocks.of[b].count;
      write_turned(dk, {task.part, begin, count, task.group * op.key, op.key}, tiles.dk + b * kKeys * tiles.key_columns,
                   tiles.key_columns, tiles.turned);
      write_turned(dv, {task.part, begin, count, task.group * op.value, op.value},
                   tiles.dv + b * kKeys * tiles.value_columns, tiles.value_columns, tiles.turned);
    }
  }
}

template <class Operands, class T>
void run(const Attention& op, const AttentionGradients& grad, int64_t begin, int64_t end, float* memory) {
  const Tiles<Operands> tiles(memory, op);
  for (int64_t i = begin; i < end; ++i) {
    const Task task = {i / grad.parts, i % grad.parts};
    keys_of_task<Operands, T>(op, grad, task, op.past, grad.past_dk, grad.past_dv, tiles);
    keys_of_task<Operands, T>(op, grad, task, op.now, grad.dk, grad.dv, tiles);
  }
}

void backward(const Attention& op, const AttentionGradients& grad, int64_t begin, int64_t end, float* memory) {
  if (op.q.dtype == Dtype::kFloat) return run<FloatOperands, float>(op, grad, begin, end, memory);
#if defined(__AMX_BF16__)
  const MatrixUnit shaped;
  return run<UnitOperands, BFloat16>(op, grad, begin, end, memory);
#elif defined(__AVX512BF16__)
  return run<PairOperands, BFloat16>(op, grad, begin, end, memory);
#else
  return run<FloatOperands, BFloat16>(op, grad, begin, end, memory);
#endif
}

}  // namespace

extern const AttentionBackwardKernels attention_backward;
const AttentionBackwardKernels attention_backward = {scratch, backward};

}  // namespace braidlm::BRAIDLM_LEVEL
