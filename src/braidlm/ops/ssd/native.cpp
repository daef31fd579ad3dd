// The chunked form in matrix products of register tiles. Heads of a group run together, because
// they share a chunk's B, C and C B^T; everything that a chunk needs stays in the caches.
//
// Legend: Q = tokens of a chunk, N = states, P = channels of a head, all padded to whole tiles.
#include "decays.h"
#include "native.h"

#include "../csrc/product.h"
#include "../csrc/staging.h"
#include "recurrence.h"

namespace braidlm::BRAIDLM_LEVEL {
namespace {

// Heads that run together at most: their states share the second-level cache.
constexpr int64_t kHeads = 16;
// Rows shorter than this go token by token: turning the states around would cost more than it saves.
constexpr int64_t kFewTokens = 6;

struct Sizes {
  int64_t n, p;
};

Sizes sizes_of(const Ssd& op) { return {padded(op.states, kSimdWidth), padded(op.head_dim, kTileColumns)}; }

struct Tiles {
  float *b, *c;      // [Q, N]
  float* b_turned;   // [N, Q]
  float* score;      // [Q, Q]: C B^T
  float* dt;         // [Q, kHeads]
  float *x, *x_end;  // [Q, P]; x_end: weighted for the chunk's last state
  float* mixing;     // [Q, Q]: what token s adds to token t
  float* y;          // [Q, P]
  float* h;          // [kHeads, N, P]: states, turned around
};

int64_t scratch(const Ssd& op) {
  const Sizes size = sizes_of(op);
  return kChunk * (3 * size.n + 2 * kChunk + kHeads + 3 * size.p) + kHeads * size.n * size.p;
}

Tiles tiles_in(float* memory, const Ssd& op) {
  const Sizes size = sizes_of(op);
  const auto take = [&memory](int64_t count) {
    float* const taken = memory;
    memory += count;
    return taken;
  };
  Tiles tiles;
  tiles.b = take(kChunk * size.n);
  tiles.c = take(kChunk * size.n);
  tiles.b_turned = take(kChunk * size.n);
  tiles.score = take(kChunk * kChunk);
  tiles.mixing = take(kChunk * kChunk);
  tiles.dt = take(kChunk * kHeads);
  tiles.x = take(kChunk * size.p);
  tiles.x_end = take(kChunk * size.p);
  tiles.y = take(kChunk * size.p);
  tiles.h = take(kHeads * size.n * size.p);
  return tiles;
}

// A chunk of one row, and heads [first, first + heads) of one group.
struct Chunk {
  int64_t row, token, tokens, first, heads;
};

// Reads a tile and makes its tokens a whole number of register tiles, zero at the end.
void read_padded(const Sequence& from, const Part& part, float* tile, int64_t width) {
  read(from, part, tile, width);
  for (int64_t i = part.tokens * width; i < padded(part.tokens, kTileRows) * width; i += kSimdWidth)
    store(tile + i, Floats{});
}

// What all heads of the group share.
void shared(const Ssd& op, const Tiles& tiles, const Chunk& chunk) {
  const Sizes size = sizes_of(op);
  const int64_t group = chunk.first / (op.heads / op.groups);
  const Part part = {chunk.row, chunk.token, chunk.tokens, group * op.states, op.states};
  read_padded(op.b, part, tiles.b, size.n);
  read_padded(op.c, part, tiles.c, size.n);
  read(op.dt, {chunk.row, chunk.token, chunk.tokens, chunk.first, chunk.heads}, tiles.dt, kHeads);
  const int64_t tokens = padded(chunk.tokens, kTileRows);
  for (int64_t n = 0; n < op.states; ++n) {
    float* row = tiles.b_turned + n * kChunk;
    for (int64_t s = 0; s < tokens; ++s) row[s] = tiles.b[s * size.n + n];
    for (int64_t s = tokens; s < padded(tokens, kTileColumns); ++s) row[s] = 0;
  }
  for (int64_t t = 0; t < tokens; t += kTileRows)
    for (int64_t s = 0; s < t + kTileRows; s += kTileColumns) {
      Accumulators acc = {};
      multiply_add(acc, {tiles.c + t * size.n, size.n, 1}, tiles.b_turned + s, kChunk, op.states);
      store(tiles.score + t * kChunk + s, kChunk, acc);
    }
}

// mixing(t, s) = score(t, s) dt_s exp(A (dt_{s+1} + ... + dt_t)) for s <= t, else zero. A row's
// decays are the row's before times one more step: products, of which none is ever divided by.
void mix(const Tiles& tiles, const Decays& decays, int64_t tokens) {
  alignas(64) float between[kChunk] = {};
  for (int64_t t = 0; t < tokens; ++t) {
    const int64_t end = padded(t + 1, kTileRows);
    for (int64_t s = 0; s < t; s += kSimdWidth) store(between + s, load(between + s) * decays.step[t]);
    between[t] = decays.dt[t];
    for (int64_t s = 0; s < end; s += kSimdWidth)
      store(tiles.mixing + t * kChunk + s, load(tiles.score + t * kChunk + s) * load(between + s));
  }
}

void head_of_chunk(const Ssd& op, const Tiles& tiles, const Chunk& chunk, int64_t k) {
  const Sizes size = sizes_of(op);
  const int64_t head = chunk.first + k;
  const Part part = {chunk.row, chunk.token, chunk.tokens, head * op.head_dim, op.head_dim};
  float* h = tiles.h + k * size.n * size.p;
  Decays decays;
  fill(decays, tiles.dt + k, kHeads, op.a[head], chunk.tokens);
  weigh_end(decays);
  read_padded(op.x, part, tiles.x, size.p);
  for (int64_t s = 0; s < chunk.tokens; ++s)
    for (int64_t p = s * size.p; p < (s + 1) * size.p; p += kSimdWidth)
      store(tiles.x_end + p, load(tiles.x + p) * decays.end[s]);
  mix(tiles, decays, chunk.tokens);
  for (int64_t p = 0; p < size.p; p += kTileColumns) {
    for (int64_t t = 0; t < chunk.tokens; t += kTileRows) {
      Accumulators acc = {}, skip;
      const int64_t before = t + kTileRows < chunk.tokens ? t + kTileRows : chunk.tokens;
      load_scaled(skip, op.d[head], tiles.x + t * size.p + p, size.p);
      multiply_add(acc, {tiles.c + t * size.n, size.n, 1}, h + p, size.p, op.states);
      scale_rows(acc, decays.start + t);
      multiply_add(acc, {tiles.mixing + t * kChunk, kChunk, 1}, tiles.x + p, size.p, before);
      add(acc, skip);
      store(tiles.y + t * size.p + p, size.p, acc);
    }
    for (int64_t n = 0; n < size.n; n += kTileRows) {
      Accumulators acc;
      load_scaled(acc, decays.whole, h + n * size.p + p, size.p);
      multiply_add(acc, {tiles.b + n, 1, size.n}, tiles.x_end + p, size.p, chunk.tokens);
      store(h + n * size.p + p, size.p, acc);
    }
  }
  write(op.y, part, tiles.y, size.p);
}

// All tokens of heads of one row and one group.
void heads_of_group(const Ssd& op, const Tiles& tiles, int64_t row, int64_t first, int64_t heads) {
  const Sizes size = sizes_of(op);
  const int64_t state = (row * op.heads + first) * op.head_dim * op.states;
  std::memset(tiles.h, 0, heads * size.n * size.p * sizeof(float));
  const auto each = [&](auto body) {  // body(place in memory, place in the turned tiles)
    for (int64_t k = 0; k < heads; ++k)
      for (int64_t p = 0; p < op.head_dim; ++p)
        for (int64_t n = 0; n < op.states; ++n)
          body(state + (k * op.head_dim + p) * op.states + n, (k * size.n + n) * size.p + p);
  };
  each([&](int64_t from, int64_t to) { tiles.h[to] = op.before[from]; });
  for (int64_t t = 0; t < op.length; t += kChunk) {
    const Chunk chunk = {row, t, op.length - t < kChunk ? op.length - t : kChunk, first, heads};
    shared(op, tiles, chunk);
    for (int64_t k = 0; k < heads; ++k) head_of_chunk(op, tiles, chunk, k);
  }
  each([&](int64_t to, int64_t from) { op.after[to] = tiles.h[from]; });
}

// One head of a short row: the recurrence itself.
void few_tokens(const Ssd& op, const Tiles& tiles, int64_t row, int64_t head) {
  const Sizes size = sizes_of(op);
  const int64_t state = (row * op.heads + head) * op.head_dim * op.states;
  const int64_t group = head / (op.heads / op.groups);
  float* h = op.after + state;
  std::memcpy(h, op.before + state, op.head_dim * op.states * sizeof(float));
  for (int64_t t = 0; t < op.length; ++t) {
    float dt[kSimdWidth];
    read(op.dt, {row, t, 1, head, 1}, dt, kSimdWidth);
    read(op.x, {row, t, 1, head * op.head_dim, op.head_dim}, tiles.x, size.p);
    read(op.b, {row, t, 1, group * op.states, op.states}, tiles.b, size.n);
    read(op.c, {row, t, 1, group * op.states, op.states}, tiles.c, size.n);
    const float decay = exp2(dt[0] * op.a[head] * kLog2E);
    advance_head(op.head_dim, op.states, decay, dt[0], tiles.x, tiles.b, tiles.c, op.d[head], h, tiles.y);
    write(op.y, {row, t, 1, head * op.head_dim, op.head_dim}, tiles.y, size.p);
  }
}

void forward(const Ssd& op, int64_t begin, int64_t end, float* memory) {
  const Tiles tiles = tiles_in(memory, op);
  const int64_t share = op.heads / op.groups;
  for (int64_t i = begin; i < end;) {
    const int64_t row = i / op.heads, head = i % op.heads;
    if (op.length < kFewTokens) {
      few_tokens(op, tiles, row, head);
      ++i;
      continue;
    }
    int64_t heads = share - head % share;  // to the end of the group
    heads = heads < end - i ? heads : end - i;
    heads = heads < kHeads ? heads : kHeads;
    heads_of_group(op, tiles, row, head, heads);
    i += heads;
  }
}

}  // namespace

extern const SsdNativeKernels ssd_native;
const SsdNativeKernels ssd_native = {scratch, forward};

}  // namespace braidlm::BRAIDLM_LEVEL
