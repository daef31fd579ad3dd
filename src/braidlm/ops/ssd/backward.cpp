// Gradients of the chunked form, in matrix products of register tiles. States are kept at the borders
// of chunks only, so memory grows with the length divided by a chunk's. With M(t, s) = C_t . B_s times
// the decay from s to t times dt_s, and dH what later chunks say of the state after this one:
//
//   dX = M^T dY + end dt B dH + D dY          dH before = whole dH + C^T start dY
//   dC = pairs B + start dY H^T               dB = pairs^T C + end dt X dH^T
//
// where pairs(t, s) = dY_t . X_s times decay and dt_s, start and end are the decays from a chunk's
// start and to its end, and whole is that of all of it.
//
// Legend: Q = tokens of a chunk, N = states, P = channels of a head, all padded to whole tiles.
#include "../csrc/product.h"
#include "../csrc/staging.h"
#include "decays.h"
#include "native.h"

namespace braidlm::BRAIDLM_LEVEL {
namespace {

constexpr int64_t kHeads = kSsdGradientHeads;
static_assert(kHeads <= kSimdWidth && kChunk % kTileColumns == 0 && kTileColumns % kTileRows == 0);

struct Sizes {
  int64_t n, p;
  int64_t state() const { return n * p; }
};

Sizes sizes_of(const Ssd& op) { return {padded(op.states, kTileColumns), padded(op.head_dim, kTileColumns)}; }

int64_t chunks_of(const Ssd& op) { return (op.length + kChunk - 1) / kChunk; }

// The state before the row is kept even if there are no tokens.
int64_t borders_of(const Ssd& op) { return chunks_of(op) > 1 ? chunks_of(op) : 1; }

struct Tiles {
  float *b, *c, *db, *dc;       // [Q, N]; gradients: of all heads of a block
  float* b_turned;              // [N, Q]
  float *score, *pairs;         // [Q, Q]: C B^T, and its gradient from all heads of a block
  float *dt, *ddt;              // [Q, kSimdWidth]: heads are columns
  float *x, *dy;                // [Q, P]
  float *x_end, *dy_start;      // likewise, times `end` and `start`
  float *x_turned, *dx_turned;  // [P, Q]
  float *mixing, *decayed;      // [Q, Q]: M, and its gradient, later times the score and the decay
  float* dh;                    // [kHeads, P, N]
  float* borders;               // [chunks, kHeads, P, N]: the states before each
};

int64_t scratch(const Ssd& op) {
  const Sizes size = sizes_of(op);
  return kChunk * (5 * size.n + 4 * kChunk + 2 * kSimdWidth + 6 * size.p) +
         (1 + borders_of(op)) * kHeads * size.state();
}

Tiles tiles_in(float* memory, const Ssd& op) {
  const Sizes size = sizes_of(op);
  const auto take = [&memory](int64_t count) {
    float* const taken = memory;
    memory += count;
    return taken;
  };
  Tiles tiles;
  for (float** tile : {&tiles.b, &tiles.c, &tiles.db, &tiles.dc, &tiles.b_turned}) *tile = take(kChunk * size.n);
  for (float** tile : {&tiles.score, &tiles.pairs, &tiles.mixing, &tiles.decayed}) *tile = take(kChunk * kChunk);
  for (float** tile : {&tiles.x, &tiles.dy, &tiles.x_end, &tiles.dy_start, &tiles.x_turned, &tiles.dx_turned})
    *tile = take(kChunk * size.p);
  for (float** tile : {&tiles.dt, &tiles.ddt}) *tile = take(kChunk * kSimdWidth);
  tiles.dh = take(kHeads * size.state());
  tiles.borders = take(borders_of(op) * kHeads * size.state());
  return tiles;
}

// A chunk of one row, and heads [first, first + heads) of one group.
struct Chunk {
  int64_t row, token, tokens, first, heads, group;

  Part states(const Ssd& op) const { return {row, token, tokens, group * op.states, op.states}; }
  Part times() const { return {row, token, tokens, first, heads}; }
  Part head(const Ssd& op, int64_t k) const { return {row, token, tokens, (first + k) * op.head_dim, op.head_dim}; }
};

// Reads a tile and makes its tokens a whole number of register tiles, zero at the end.
void read_padded(const Sequence& from, const Part& part, float* tile, int64_t width) {
  read(from, part, tile, width);
  const int64_t end = padded(part.tokens, kTileColumns);
  std::memset(tile + part.tokens * width, 0, (end - part.tokens) * width * sizeof(float));
}

// to [columns, Q] = from [rows, columns], turned around.
void turn(const float* from, int64_t rows, int64_t columns, float* to) {
  for (int64_t c = 0; c < columns; ++c)
    for (int64_t r = 0; r < rows; ++r) to[c * kChunk + r] = from[r * columns + c];
}

// to [Q, Q] = left [Q, inner] right [inner, Q] in the tiles that reach below the diagonal.
void lower(const float* left, int64_t width, const float* right, int64_t inner, int64_t tokens, float* to) {
  for (int64_t s = 0; s < tokens; s += kTileColumns)
    for (int64_t t = s; t < tokens; t += kTileRows) {
      Accumulators acc = {};
      multiply_add(acc, {left + t * width, width, 1}, right + s, kChunk, inner);
      store(to + t * kChunk + s, kChunk, acc);
    }
}

// to = from with each token's numbers times one of its own.
void weigh(const float* from, const float* weights, int64_t tokens, int64_t width, float* to) {
  for (int64_t t = 0; t < padded(tokens, kTileColumns); ++t)
    for (int64_t i = t * width; i < (t + 1) * width; i += kSimdWidth) store(to + i, load(from + i) * weights[t]);
}

// to [P, N] = whole from + left^T right, of left [tokens, P] and right [tokens, N].
void carry(const Sizes& size, float whole, const float* from, const float* left, const float* right, int64_t tokens,
           float* to) {
  for (int64_t n = 0; n < size.n; n += kTileColumns)
    for (int64_t p = 0; p < size.p; p += kTileRows) {
      Accumulators acc;
      load_scaled(acc, whole, from + p * size.n + n, size.n);
      multiply_add(acc, {left + p, 1, size.p}, right + n, size.n, tokens);
      store(to + p * size.n + n, size.n, acc);
    }
}

// From the states before a chunk to those after it.
void advance(const Ssd& op, const Tiles& tiles, const Chunk& chunk, const float* border, float* next) {
  const Sizes size = sizes_of(op);
  read(op.b, chunk.states(op), tiles.b, size.n);
  read(op.dt, chunk.times(), tiles.dt, kSimdWidth);
  for (int64_t k = 0; k < chunk.heads; ++k, border += size.state(), next += size.state()) {
    Decays decays;
    fill(decays, tiles.dt + k, kSimdWidth, op.a[chunk.first + k], chunk.tokens);
    weigh_end(decays);
    read_padded(op.x, chunk.head(op, k), tiles.x, size.p);
    weigh(tiles.x, decays.end, chunk.tokens, size.p, tiles.x_end);
    carry(size, decays.whole, border, tiles.x_end, tiles.b, chunk.tokens, next);
  }
}

// What all heads of the block share.
void shared(const Ssd& op, const Tiles& tiles, const Chunk& chunk) {
  const Sizes size = sizes_of(op);
  read_padded(op.b, chunk.states(op), tiles.b, size.n);
  read_padded(op.c, chunk.states(op), tiles.c, size.n);
  read(op.dt, chunk.times(), tiles.dt, kSimdWidth);
  turn(tiles.b, padded(chunk.tokens, kTileColumns), size.n, tiles.b_turned);
  lower(tiles.c, size.n, tiles.b_turned, op.states, chunk.tokens, tiles.score);
  std::memset(tiles.db, 0, kChunk * size.n * sizeof(float));
  std::memset(tiles.dc, 0, kChunk * size.n * sizeof(float));
  std::memset(tiles.pairs, 0, kChunk * kChunk * sizeof(float));
}

// Weighs every pair of tokens by the decay between them, products of which none is ever divided by.
void mix(const Tiles& tiles, const Decays& decays, int64_t tokens) {
  alignas(64) float between[kChunk] = {};
  for (int64_t t = 0; t < tokens; ++t) {
    const int64_t end = padded(t + 1, kTileColumns);
    for (int64_t s = 0; s < t; s += kSimdWidth) store(between + s, load(between + s) * decays.step[t]);
    between[t] = 1;
    for (int64_t s = 0; s < end; s += kSimdWidth) {
      const int64_t i = t * kChunk + s;
      const Floats decay = load(between + s), weight = decay * load(decays.dt + s);
      const Floats score = load(tiles.score + i), dmixing = load(tiles.decayed + i);
      store(tiles.mixing + i, score * weight);
      store(tiles.pairs + i, load(tiles.pairs + i) + dmixing * weight);
      store(tiles.decayed + i, dmixing * score * decay);
    }
  }
}

// to(t, :) += weights[t] (left right)(t, :); dots[t] = (left right)(t, :) . with(t, :).
void add_product(const Ssd& op, const float* left, const float* right, const float* with, const float* weights,
                 int64_t tokens, float* to, float* dots) {
  const Sizes size = sizes_of(op);
  for (int64_t t = 0; t < kChunk; ++t) dots[t] = 0;
  for (int64_t n = 0; n < size.n; n += kTileColumns)
    for (int64_t t = 0; t < tokens; t += kTileRows) {
      const int64_t i = t * size.n + n;
      Accumulators acc = {}, before;
      multiply_add(acc, {left + t * size.p, size.p, 1}, right + n, size.n, op.head_dim);
      unrolled<kTileRows>([&](auto r) {
        Floats dot = {};
        unrolled<kTileVectors>([&](auto v) { dot += acc.of[r][v] * load(with + i + r * size.n + v * kSimdWidth); });
        dots[t + r] += sum(dot);
      });
      scale_rows(acc, weights + t);
      load_scaled(before, 1, to + i, size.n);
      add(acc, before);
      store(to + i, size.n, acc);
    }
}

// What was found out about one head of a chunk on the way to its time steps' gradients.
struct Dots {
  alignas(64) float start[kChunk];  // of each token's output with what came from before the chunk
  alignas(64) float end[kChunk];    // of each token's input with what later chunks say, but for its dt
  float whole;                      // of the states before the chunk with what later chunks say
};

// Gradients of the time steps, as factors and through decays. The decay of token j lies between s and
// t where s < j <= t: exactly these terms are summed, since differences of longer sums would lose
// what decays have made small. Returns the gradient of A.
float times(const Tiles& tiles, const Decays& decays, const Dots& dots, float a, int64_t tokens, int64_t k) {
  alignas(64) float after[kChunk] = {};  // of each s, the sum over t >= j
  float earlier[kChunk + 1] = {}, later = 0, da = 0;
  for (int64_t s = 0; s < tokens; ++s) earlier[s + 1] = earlier[s] + decays.dt[s] * dots.end[s];
  Ints lane;
  for (int i = 0; i < kSimdWidth; ++i) lane[i] = i;
  for (int64_t j = tokens - 1; j >= 0; --j) {
    Floats through = {};
    int64_t s = 0;
    for (; s <= j; s += kSimdWidth) {
      const Floats sums = load(after + s) + load(tiles.decayed + j * kChunk + s);
      store(after + s, sums);
      through += lane < int32_t(j - s) ? sums * load(decays.dt + s) : Floats{};
    }
    later += dots.start[j];
    const float step = sum(through) + later + earlier[j] + dots.whole;
    tiles.ddt[j * kSimdWidth + k] = after[j] + dots.end[j] + a * step;
    da += decays.dt[j] * step;
  }
  return da;
}

// dx_turned [P, Q], but for the skip connection.
void inputs(const Ssd& op, const Tiles& tiles, const Decays& decays, const float* dh, int64_t tokens) {
  const Sizes size = sizes_of(op);
  for (int64_t s = 0; s < tokens; s += kTileColumns) {
    Floats weights[kTileVectors];
    unrolled<kTileVectors>(
        [&](auto v) { weights[v] = load(decays.end + s + v * kSimdWidth) * load(decays.dt + s + v * kSimdWidth); });
    for (int64_t p = 0; p < size.p; p += kTileRows) {
      Accumulators acc = {};
      multiply_add(acc, {dh + p * size.n, size.n, 1}, tiles.b_turned + s, kChunk, op.states);
      unrolled<kTileRows>([&](auto r) { unrolled<kTileVectors>([&](auto v) { acc.of[r][v] *= weights[v]; }); });
      multiply_add(acc, {tiles.dy + s * size.p + p, 1, size.p}, tiles.mixing + s * kChunk + s, kChunk, tokens - s);
      store(tiles.dx_turned + p * kChunk + s, kChunk, acc);
    }
  }
}

float dot(const float* a, const float* b, int64_t count) {
  Floats sums[2] = {};
  for (int64_t i = 0; i < count; i += 2 * kSimdWidth)
    unrolled<2>([&](auto v) { sums[v] += load(a + i + v * kSimdWidth) * load(b + i + v * kSimdWidth); });
  return sum(sums[0] + sums[1]);
}

void head_of_chunk(const Ssd& op, const SsdGradients& grad, const Tiles& tiles, const Chunk& chunk, int64_t k,
                   const float* h) {
  const Sizes size = sizes_of(op);
  const int64_t head = chunk.first + k, rounded = padded(chunk.tokens, kTileColumns);
  const Part part = chunk.head(op, k);
  float* const dh = tiles.dh + k * size.state();
  Decays decays;
  fill(decays, tiles.dt + k, kSimdWidth, op.a[head], chunk.tokens);
  read_padded(op.x, part, tiles.x, size.p);
  read_padded(grad.dy, part, tiles.dy, size.p);
  weigh(tiles.x, decays.end, chunk.tokens, size.p, tiles.x_end);
  weigh(tiles.dy, decays.start, chunk.tokens, size.p, tiles.dy_start);
  turn(tiles.x, rounded, size.p, tiles.x_turned);
  lower(tiles.dy, size.p, tiles.x_turned, op.head_dim, chunk.tokens, tiles.decayed);
  mix(tiles, decays, chunk.tokens);
  alignas(64) float ones[kChunk];
  for (float& one : ones) one = 1;
  Dots dots;
  add_product(op, tiles.dy_start, h, tiles.c, ones, chunk.tokens, tiles.dc, dots.start);
  add_product(op, tiles.x_end, dh, tiles.b, decays.dt, chunk.tokens, tiles.db, dots.end);
  dots.whole = decays.whole * dot(h, dh, size.state());
  const int64_t to = chunk.row * op.heads + head;
  grad.da[to] += times(tiles, decays, dots, op.a[head], chunk.tokens, k);
  grad.dd[to] += dot(tiles.x, tiles.dy, rounded * size.p);
  inputs(op, tiles, decays, dh, chunk.tokens);
  carry(size, decays.whole, dh, tiles.dy_start, tiles.c, chunk.tokens, dh);
  for (int64_t t = 0; t < chunk.tokens; ++t)
    for (int64_t p = 0; p < op.head_dim; ++p)
      tiles.x[t * size.p + p] = tiles.dx_turned[p * kChunk + t] + op.d[head] * tiles.dy[t * size.p + p];
  write(grad.dx, part, tiles.x, size.p);
}

// dB and dC of all heads, from the gradient of their common score.
void add_pairs(const Ssd& op, const Tiles& tiles, int64_t tokens) {
  const Sizes size = sizes_of(op);
  for (int64_t n = 0; n < size.n; n += kTileColumns)
    for (int64_t t = 0; t < tokens; t += kTileRows) {
      const int64_t i = t * size.n + n, end = t + kTileRows < tokens ? t + kTileRows : tokens;
      Accumulators acc;
      load_scaled(acc, 1, tiles.dc + i, size.n);
      multiply_add(acc, {tiles.pairs + t * kChunk, kChunk, 1}, tiles.b + n, size.n, end);
      store(tiles.dc + i, size.n, acc);
      load_scaled(acc, 1, tiles.db + i, size.n);
      multiply_add(acc, {tiles.pairs + t * kChunk + t, 1, kChunk}, tiles.c + i, size.n, tokens - t);
      store(tiles.db + i, size.n, acc);
    }
}

// Copies states between memory and tiles of padded rows.
void states(const Ssd& op, int64_t head, int64_t heads, const float* from, float* tile, float* to) {
  const Sizes size = sizes_of(op);
  if (from) std::memset(tile, 0, heads * size.state() * sizeof(float));
  for (int64_t k = 0; k < heads; ++k)
    for (int64_t p = 0; p < op.head_dim; ++p) {
      const int64_t at = ((head + k) * op.head_dim + p) * op.states;
      float* const row = tile + k * size.state() + p * size.n;
      if (from)
        std::memcpy(row, from + at, op.states * sizeof(float));
      else
        std::memcpy(to + at, row, op.states * sizeof(float));
    }
}

// All tokens of one block of heads.
void block(const Ssd& op, const SsdGradients& grad, const Tiles& tiles, int64_t row, int64_t at) {
  const int64_t share = op.heads / op.groups, in_group = ssd_gradient_blocks(op), of_group = at % in_group * kHeads;
  const int64_t group = at / in_group, first = group * share + of_group;
  const int64_t heads = share - of_group < kHeads ? share - of_group : kHeads;
  const int64_t plane = kHeads * sizes_of(op).state(), chunks = chunks_of(op), head = row * op.heads + first;
  const auto chunk = [&](int64_t i) {
    const int64_t t = i * kChunk;
    return Chunk{row, t, op.length - t < kChunk ? op.length - t : kChunk, first, heads, group};
  };
  for (int64_t k = 0; k < heads; ++k) grad.da[head + k] = grad.dd[head + k] = 0;
  states(op, head, heads, op.before, tiles.borders, nullptr);
  states(op, head, heads, grad.dafter, tiles.dh, nullptr);
  for (int64_t i = 0; i + 1 < chunks; ++i)
    advance(op, tiles, chunk(i), tiles.borders + i * plane, tiles.borders + (i + 1) * plane);
  const int64_t partial = op.length * op.states;
  const Sequence db = {grad.db, Dtype::kFloat, partial, op.states}, dc = {grad.dc, Dtype::kFloat, partial, op.states};
  for (int64_t i = chunks - 1; i >= 0; --i) {
    const Chunk now = chunk(i);
    const float* const h = tiles.borders + i * plane;
    shared(op, tiles, now);
    for (int64_t k = 0; k < heads; ++k) head_of_chunk(op, grad, tiles, now, k, h + k * sizes_of(op).state());
    add_pairs(op, tiles, now.tokens);
    const Part part = {row * op.groups * in_group + at, now.token, now.tokens, 0, op.states};
    write(db, part, tiles.db, sizes_of(op).n);
    write(dc, part, tiles.dc, sizes_of(op).n);
    write(grad.ddt, now.times(), tiles.ddt, kSimdWidth);
  }
  states(op, head, heads, nullptr, tiles.dh, grad.dbefore);
}

void backward(const Ssd& op, const SsdGradients& grad, int64_t begin, int64_t end, float* memory) {
  const Tiles tiles = tiles_in(memory, op);
  const int64_t in_row = op.groups * ssd_gradient_blocks(op);
  for (int64_t i = begin; i < end; ++i) block(op, grad, tiles, i / in_row, i % in_row);
}

}  // namespace

extern const SsdBackwardKernels ssd_backward;
const SsdBackwardKernels ssd_backward = {scratch, backward};

}  // namespace braidlm::BRAIDLM_LEVEL
