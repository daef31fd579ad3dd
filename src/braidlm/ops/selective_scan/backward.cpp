// Gradients of the selective scan. States are kept at the borders of pieces of time only and
// recomputed inside, so memory grows with the length divided by a piece's. So are time steps and
// what the gate multiplies: a pass over memory costs more than they do. A vector holds channels.
#include "../csrc/exp2.h"
#include "../csrc/staging.h"
#include "native.h"

namespace braidlm::BRAIDLM_LEVEL {
namespace {

constexpr int64_t kTokens = kScanTokens, kBlock = kScanChannels;
// States whose recurrences run side by side: each waits for its own multiplications.
constexpr int kTogether = 4;
// One vector of channels for each of those states.
constexpr int64_t kPlaces = kTogether * kSimdWidth;

struct Tiles {
  float *x, *dt, *dy;    // [kBlock / kSimdWidth, kTokens, kSimdWidth]; dt: after its softplus; dy: before the gate
  float *y, *dx, *ddt;   // likewise; y: without the skip connection; dx: first the gradient of dt x
  float *slope, *dgate;  // likewise: of the softplus; dgate: first without the factor y
  float *b, *c;          // [kTokens, width]
  float *db_apart, *dc_apart;  // [kTokens, kPlaces]: sums still to be taken
  float *h, *decay;            // [kTokens + 1, kPlaces], [kTokens, kPlaces]
  float *a, *da, *dh;          // [states, kBlock]; dh: what later tokens say of the state
  int64_t width;
};

int64_t width_of(const SelectiveScan& op) { return padded(op.states, kSimdWidth); }

int64_t scratch(const SelectiveScan& op) {
  const int64_t places = 4 * kTokens + 1;
  return kTokens * (8 * kBlock + 2 * width_of(op)) + places * kPlaces + 3 * op.states * kBlock;
}

Tiles tiles_in(float* memory, const SelectiveScan& op) {
  const auto take = [&memory](int64_t count) {
    float* const taken = memory;
    memory += count;
    return taken;
  };
  Tiles tiles;
  tiles.width = width_of(op);
  for (float** tile : {&tiles.x, &tiles.dt, &tiles.dy, &tiles.y, &tiles.dx, &tiles.ddt, &tiles.slope, &tiles.dgate})
    *tile = take(kTokens * kBlock);
  for (float** tile : {&tiles.b, &tiles.c}) *tile = take(kTokens * tiles.width);
  for (float** tile : {&tiles.db_apart, &tiles.dc_apart, &tiles.decay}) *tile = take(kTokens * kPlaces);
  tiles.h = take((kTokens + 1) * kPlaces);
  for (float** tile : {&tiles.a, &tiles.da, &tiles.dh}) *tile = take(op.states * kBlock);
  return tiles;
}

// A vector of channels lies together along time: it is gone through state after state.
int64_t place_of(int64_t v, int64_t t) { return v * kTokens + t * kSimdWidth; }

// body(place of the vector in a tile, the part of it)
template <class Body>
void by_vectors(const Part& part, Body body) {
  for (int64_t v = 0; v < part.channels; v += kSimdWidth)
    body(place_of(v, 0), Part{part.row, part.token, part.tokens, part.channel + v,
                              part.channels - v < kSimdWidth ? part.channels - v : kSimdWidth});
}

void read_vectors(const Sequence& from, const Part& part, float* tile) {
  by_vectors(part, [&](int64_t place, const Part& vector) { read(from, vector, tile + place, kSimdWidth); });
}

void write_vectors(const Sequence& to, const Part& part, const float* tile) {
  by_vectors(part, [&](int64_t place, const Part& vector) { write(to, vector, tile + place, kSimdWidth); });
}

void read_inputs(const SelectiveScan& op, const Tiles& tiles, const Part& part) {
  const Part states = {part.row, part.token, part.tokens, 0, op.states};
  read_vectors(op.x, part, tiles.x);
  read_vectors(op.dt, part, tiles.dt);
  read(op.b, states, tiles.b, tiles.width);
  read(op.c, states, tiles.c, tiles.width);
  if (op.dt_bias)
    by_vectors(part, [&](int64_t place, const Part& vector) {
      const Floats bias = load_part(op.dt_bias + vector.channel, int(vector.channels));
      for (int64_t i = place; i < place + part.tokens * kSimdWidth; i += kSimdWidth) {
        const Floats before = load(tiles.dt + i) + bias;
        store(tiles.slope + i, sigmoid(before));
        store(tiles.dt + i, softplus(before));
      }
    });
}

// What comes from later, and through the gate if there is one.
void read_outputs(const SelectiveScan& op, const SelectiveScanGradients& grad, const Tiles& tiles, const Part& part) {
  read_vectors(grad.dy, part, tiles.dy);
  if (!op.gate.data) return;
  read_vectors(op.gate, part, tiles.dgate);
  for (int64_t i = 0; i < kTokens * kBlock; i += kSimdWidth) {
    const Floats gate = load(tiles.dgate + i), dout = load(tiles.dy + i), open = sigmoid(gate);
    store(tiles.dy + i, dout * (gate * open));
    store(tiles.dgate + i, dout * (open * (gate * (1.0f - open) + 1.0f)));
  }
}

// States n ... n + S - 1 of one vector of channels, through a piece of time and back.
template <int S>
void there_and_back(const Tiles& tiles, int64_t tokens, const float* border, int64_t n, int64_t v) {
  Floats h[S], a[S], dh[S], da[S];
  unrolled<S>([&](auto s) {
    const int64_t i = (n + s) * kBlock + v;
    a[s] = load(tiles.a + i), h[s] = load(border + i), dh[s] = load(tiles.dh + i), da[s] = load(tiles.da + i);
    store(tiles.h + s * kSimdWidth, h[s]);
  });
  // Held apart from the tiles: a number that is stored could be one of these for all the compiler knows.
  const int64_t first = place_of(v, 0), width = tiles.width;
  const float *const xs = tiles.x + first, *const dts = tiles.dt + first, *const dys = tiles.dy + first;
  float *const ys = tiles.y + first, *const dxs = tiles.dx + first, *const ddts = tiles.ddt + first;
  float *const hs = tiles.h, *const decays = tiles.decay, *const dbs = tiles.db_apart, *const dcs = tiles.dc_apart;
  const float *b = tiles.b + n, *c = tiles.c + n;
  for (int64_t t = 0; t < tokens; ++t, b += width, c += width) {
    const int64_t i = t * kSimdWidth;
    const Floats dt = load(dts + i), units = dt * kLog2E, added = dt * load(xs + i);
    Floats y = load(ys + i);
    unrolled<S>([&](auto s) {
      const int64_t place = t * kPlaces + s * kSimdWidth;
      const Floats decay = exp2(units * a[s]);
      h[s] = decay * h[s] + added * b[s];
      y += h[s] * c[s];
      store(decays + place, decay);
      store(hs + place + kPlaces, h[s]);
    });
    store(ys + i, y);
  }
  for (int64_t t = tokens - 1; t >= 0; --t) {
    b -= width, c -= width;
    const int64_t i = t * kSimdWidth;
    const Floats dy = load(dys + i), dt = load(dts + i), added = dt * load(xs + i);
    Floats dadded = load(dxs + i), ddt = load(ddts + i);
    unrolled<S>([&](auto s) {
      const int64_t place = t * kPlaces + s * kSimdWidth;
      dh[s] += dy * c[s];
      store(dcs + place, load(dcs + place) + dy * load(hs + place + kPlaces));
      store(dbs + place, load(dbs + place) + dh[s] * added);
      dadded += dh[s] * b[s];
      dh[s] *= load(decays + place);
      const Floats decayed = dh[s] * load(hs + place);
      ddt += decayed * a[s];
      da[s] += decayed * dt;
    });
    store(dxs + i, dadded);
    store(ddts + i, ddt);
  }
  unrolled<S>([&](auto s) {
    store(tiles.dh + (n + s) * kBlock + v, dh[s]);
    store(tiles.da + (n + s) * kBlock + v, da[s]);
  });
}

// States n ... n + S - 1 of all channels of a block. Tokens of db and dc are numbered from `first`.
template <int S>
void states_of_block(const SelectiveScan& op, const SelectiveScanGradients& grad, const Tiles& tiles, const Part& part,
                     const float* border, int64_t n, int64_t first) {
  std::memset(tiles.db_apart, 0, kTokens * kPlaces * sizeof(float));
  std::memset(tiles.dc_apart, 0, kTokens * kPlaces * sizeof(float));
  for (int64_t v = 0; v < part.channels; v += kSimdWidth) there_and_back<S>(tiles, part.tokens, border, n, v);
  for (int64_t t = 0; t < part.tokens; ++t)
    for (int64_t s = 0; s < S; ++s) {
      const int64_t to = (first + t) * op.states + n + s, place = t * kPlaces + s * kSimdWidth;
      grad.db[to] = sum(load(tiles.db_apart + place));
      grad.dc[to] = sum(load(tiles.dc_apart + place));
    }
}

// From what the states gave to gradients of what was given.
void finish(const SelectiveScan& op, const SelectiveScanGradients& grad, const Tiles& tiles, const Part& part) {
  by_vectors(part, [&](int64_t place, const Part& vector) {
    const int active = int(vector.channels);
    const int64_t at = vector.row * op.channels + vector.channel;
    const Floats d = load_part(op.d + vector.channel, active);
    Floats dd = load_part(grad.dd + at, active), dbias = op.dt_bias ? load_part(grad.ddt_bias + at, active) : Floats{};
    for (int64_t i = place; i < place + part.tokens * kSimdWidth; i += kSimdWidth) {
      const Floats x = load(tiles.x + i), dy = load(tiles.dy + i), dadded = load(tiles.dx + i);
      dd += dy * x;
      Floats ddt = load(tiles.ddt + i) + dadded * x;
      if (op.dt_bias) ddt *= load(tiles.slope + i), dbias += ddt;
      store(tiles.ddt + i, ddt);
      store(tiles.dx + i, dadded * load(tiles.dt + i) + d * dy);
      if (op.gate.data) store(tiles.dgate + i, load(tiles.dgate + i) * (load(tiles.y + i) + d * x));
    }
    store_part(grad.dd + at, dd, active);
    if (op.dt_bias) store_part(grad.ddt_bias + at, dbias, active);
  });
  write_vectors(grad.dx, part, tiles.dx);
  write_vectors(grad.ddt, part, tiles.ddt);
  if (op.gate.data) write_vectors(grad.dgate, part, tiles.dgate);
}

// What will be written after the states, and what will be read then for the piece before.
void ahead(const SelectiveScan& op, const SelectiveScanGradients& grad, const Part& part) {
  for (const Sequence* to : {&grad.dx, &grad.ddt, &grad.dgate})
    if (to->data) prefetch(*to, part);
  if (part.token < kTokens) return;
  const Part before = {part.row, part.token - kTokens, kTokens, part.channel, part.channels};
  for (const Sequence* from : {&op.x, &op.dt, &op.gate, &grad.dy})
    if (from->data) prefetch(*from, before);
}

void tokens_of_block(const SelectiveScan& op, const SelectiveScanGradients& grad, const Tiles& tiles, const Part& part,
                     const float* border, int64_t partial) {
  read_inputs(op, tiles, part);
  read_outputs(op, grad, tiles, part);
  ahead(op, grad, part);
  for (float* sums : {tiles.y, tiles.dx, tiles.ddt}) std::memset(sums, 0, kTokens * kBlock * sizeof(float));
  const int64_t first = partial + part.token;
  int64_t n = 0;
  for (; n + kTogether <= op.states; n += kTogether)
    states_of_block<kTogether>(op, grad, tiles, part, border, n, first);
  for (; n < op.states; ++n) states_of_block<1>(op, grad, tiles, part, border, n, first);
  finish(op, grad, tiles, part);
}

void block(const SelectiveScan& op, const SelectiveScanGradients& grad, const Tiles& tiles, int64_t row, int64_t at) {
  const int64_t channel = at * kBlock, channels = op.channels - channel < kBlock ? op.channels - channel : kBlock;
  const int64_t state = (row * op.channels + channel) * op.states, plane = op.states * kBlock;
  for (int64_t n = 0; n < op.states; ++n)
    for (int64_t e = 0; e < kBlock; ++e) {
      const int64_t i = n * kBlock + e, from = e * op.states + n;
      const bool held = e < channels;
      tiles.dh[i] = held ? grad.dafter[state + from] : 0;
      tiles.a[i] = held ? op.a[channel * op.states + from] : 0;
      tiles.da[i] = 0;
    }
  for (float* sums : {grad.dd, grad.ddt_bias})
    if (sums) std::memset(sums + row * op.channels + channel, 0, channels * sizeof(float));
  const int64_t pieces = scan_pieces(op), of_row = row * scan_blocks(op) + at;
  for (int64_t k = pieces - 1; k >= 0; --k) {
    const int64_t t = k * kTokens, tokens = op.length - t < kTokens ? op.length - t : kTokens;
    tokens_of_block(op, grad, tiles, {row, t, tokens, channel, channels}, op.borders + (of_row * pieces + k) * plane,
                    of_row * op.length);
  }
  for (int64_t e = 0; e < channels; ++e)
    for (int64_t n = 0; n < op.states; ++n) {
      grad.dbefore[state + e * op.states + n] = tiles.dh[n * kBlock + e];
      grad.da[state + e * op.states + n] = tiles.da[n * kBlock + e];
    }
}

void backward(const SelectiveScan& op, const SelectiveScanGradients& grad, int64_t begin, int64_t end, float* memory) {
  const Tiles tiles = tiles_in(memory, op);
  for (int64_t i = begin; i < end; ++i) block(op, grad, tiles, i / scan_blocks(op), i % scan_blocks(op));
}

}  // namespace

extern const SelectiveScanBackwardKernels selective_scan_backward;
const SelectiveScanBackwardKernels selective_scan_backward = {scratch, backward};

}  // namespace braidlm::BRAIDLM_LEVEL
