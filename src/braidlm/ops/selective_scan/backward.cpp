// Gradients of the selective scan. States are kept at the borders of blocks of time only and
// recomputed inside, so memory grows with the length divided by a block's. Lanes are channels.
#include "../csrc/exp2.h"
#include "../csrc/staging.h"
#include "native.h"

namespace braidlm::BRAIDLM_LEVEL {
namespace {

constexpr int64_t kTokens = 64, kBlock = kScanChannels;

struct Tiles {
  float *x, *dt, *dy;          // [kTokens, kBlock]
  float *dx, *ddt;             // likewise; dx: first the gradient of dt x
  float *b, *c;                // [kTokens, width]
  float *db_lanes, *dc_lanes;  // [kTokens, kLanes]: of one state, still apart
  float *h, *decay;            // [kTokens + 1, kLanes], [kTokens, kLanes]: one state, one vector of channels
  float *a, *da, *dh;          // [states, kBlock]; dh: what later tokens say of the state
  float* borders;              // [blocks of time, states, kBlock]: the state before each
  int64_t width;
};

int64_t width_of(const SelectiveScan& op) { return padded(op.states, kLanes); }

int64_t borders_of(const SelectiveScan& op) { return (op.length + kTokens - 1) / kTokens; }

int64_t scratch(const SelectiveScan& op) {
  const int64_t lanes = 4 * kTokens + 1;
  return kTokens * (5 * kBlock + 2 * width_of(op)) + lanes * kLanes + (3 + borders_of(op)) * op.states * kBlock;
}

Tiles tiles_in(float* memory, const SelectiveScan& op) {
  const auto take = [&memory](int64_t count) {
    float* const taken = memory;
    memory += count;
    return taken;
  };
  Tiles tiles;
  tiles.width = width_of(op);
  for (float** tile : {&tiles.x, &tiles.dt, &tiles.dy, &tiles.dx, &tiles.ddt}) *tile = take(kTokens * kBlock);
  for (float** tile : {&tiles.b, &tiles.c}) *tile = take(kTokens * tiles.width);
  for (float** tile : {&tiles.db_lanes, &tiles.dc_lanes, &tiles.decay}) *tile = take(kTokens * kLanes);
  tiles.h = take((kTokens + 1) * kLanes);
  for (float** tile : {&tiles.a, &tiles.da, &tiles.dh}) *tile = take(op.states * kBlock);
  tiles.borders = take(borders_of(op) * op.states * kBlock);
  return tiles;
}

void read_inputs(const SelectiveScan& op, const Tiles& tiles, const Part& part) {
  const Part states = {part.row, part.token, part.tokens, 0, op.states};
  read(op.x, part, tiles.x, kBlock);
  read(op.dt, part, tiles.dt, kBlock);
  read(op.b, states, tiles.b, tiles.width);
  read(op.c, states, tiles.c, tiles.width);
}

// From the state before a block of time, in `border`, to the one after it.
void advance(const SelectiveScan& op, const Tiles& tiles, const Part& part, const float* border, float* next) {
  for (int64_t n = 0; n < op.states; ++n)
    for (int64_t v = 0; v < part.channels; v += kLanes) {
      const Floats a = load(tiles.a + n * kBlock + v) * kLog2E;
      Floats h = load(border + n * kBlock + v);
      for (int64_t t = 0; t < part.tokens; ++t) {
        const Floats dt = load(tiles.dt + t * kBlock + v), x = load(tiles.x + t * kBlock + v);
        h = exp2(dt * a) * h + dt * x * tiles.b[t * tiles.width + n];
      }
      store(next + n * kBlock + v, h);
    }
}

// One state of one vector of channels, through a block of time and back.
void there_and_back(const Tiles& tiles, int64_t tokens, const float* border, int64_t n, int64_t v) {
  const Floats a = load(tiles.a + n * kBlock + v), unit = a * kLog2E;
  Floats h = load(border + n * kBlock + v);
  store(tiles.h, h);
  for (int64_t t = 0; t < tokens; ++t) {
    const Floats dt = load(tiles.dt + t * kBlock + v), x = load(tiles.x + t * kBlock + v), decay = exp2(dt * unit);
    h = decay * h + dt * x * tiles.b[t * tiles.width + n];
    store(tiles.decay + t * kLanes, decay);
    store(tiles.h + (t + 1) * kLanes, h);
  }
  Floats dh = load(tiles.dh + n * kBlock + v), da = load(tiles.da + n * kBlock + v);
  for (int64_t t = tokens - 1; t >= 0; --t) {
    const int64_t i = t * kBlock + v, lanes = t * kLanes;
    const Floats dy = load(tiles.dy + i), dt = load(tiles.dt + i), decay = load(tiles.decay + lanes);
    dh += dy * tiles.c[t * tiles.width + n];
    store(tiles.dc_lanes + lanes, load(tiles.dc_lanes + lanes) + dy * load(tiles.h + lanes + kLanes));
    store(tiles.db_lanes + lanes, load(tiles.db_lanes + lanes) + dh * (dt * load(tiles.x + i)));
    store(tiles.dx + i, load(tiles.dx + i) + dh * tiles.b[t * tiles.width + n]);
    const Floats decayed = dh * load(tiles.h + lanes) * decay;
    store(tiles.ddt + i, load(tiles.ddt + i) + decayed * a);
    da += decayed * dt;
    dh *= decay;
  }
  store(tiles.dh + n * kBlock + v, dh);
  store(tiles.da + n * kBlock + v, da);
}

void tokens_of_block(const SelectiveScan& op, const SelectiveScanGradients& grad, const Tiles& tiles, const Part& part,
                     const float* border, int64_t partial) {
  read_inputs(op, tiles, part);
  read(grad.dy, part, tiles.dy, kBlock);
  std::memset(tiles.dx, 0, kTokens * kBlock * sizeof(float));
  std::memset(tiles.ddt, 0, kTokens * kBlock * sizeof(float));
  for (int64_t n = 0; n < op.states; ++n) {
    std::memset(tiles.db_lanes, 0, kTokens * kLanes * sizeof(float));
    std::memset(tiles.dc_lanes, 0, kTokens * kLanes * sizeof(float));
    for (int64_t v = 0; v < part.channels; v += kLanes) there_and_back(tiles, part.tokens, border, n, v);
    for (int64_t t = 0; t < part.tokens; ++t) {
      const int64_t to = (partial + part.token + t) * op.states + n;
      grad.db[to] = sum(load(tiles.db_lanes + t * kLanes));
      grad.dc[to] = sum(load(tiles.dc_lanes + t * kLanes));
    }
  }
  for (int64_t v = 0; v < part.channels; v += kLanes) {
    const int lanes = int(part.channels - v < kLanes ? part.channels - v : kLanes);
    float* const to = grad.dd + part.row * op.channels + part.channel + v;
    const Floats d = load_part(op.d + part.channel + v, lanes);
    Floats dd = load_part(to, lanes);
    for (int64_t i = v; i < part.tokens * kBlock; i += kBlock) {
      const Floats x = load(tiles.x + i), dy = load(tiles.dy + i), both = load(tiles.dx + i);
      dd += dy * x;
      store(tiles.ddt + i, load(tiles.ddt + i) + both * x);
      store(tiles.dx + i, both * load(tiles.dt + i) + d * dy);
    }
    store_part(to, dd, lanes);
  }
  write(grad.dx, part, tiles.dx, kBlock);
  write(grad.ddt, part, tiles.ddt, kBlock);
}

void block(const SelectiveScan& op, const SelectiveScanGradients& grad, const Tiles& tiles, int64_t row, int64_t at) {
  const int64_t channel = at * kBlock, channels = op.channels - channel < kBlock ? op.channels - channel : kBlock;
  const int64_t state = (row * op.channels + channel) * op.states, plane = op.states * kBlock;
  for (int64_t n = 0; n < op.states; ++n)
    for (int64_t e = 0; e < kBlock; ++e) {
      const int64_t i = n * kBlock + e, from = e * op.states + n;
      const bool held = e < channels;
      tiles.borders[i] = held ? op.before[state + from] : 0;
      tiles.dh[i] = held ? grad.dafter[state + from] : 0;
      tiles.a[i] = held ? op.a[channel * op.states + from] : 0;
      tiles.da[i] = 0;
    }
  for (int64_t e = 0; e < channels; ++e) grad.dd[row * op.channels + channel + e] = 0;
  const auto part = [&](int64_t k) {
    const int64_t t = k * kTokens;
    return Part{row, t, op.length - t < kTokens ? op.length - t : kTokens, channel, channels};
  };
  const int64_t count = borders_of(op);
  for (int64_t k = 0; k + 1 < count; ++k) {
    read_inputs(op, tiles, part(k));
    advance(op, tiles, part(k), tiles.borders + k * plane, tiles.borders + (k + 1) * plane);
  }
  const int64_t blocks = (op.channels + kBlock - 1) / kBlock, partial = (row * blocks + at) * op.length;
  for (int64_t k = count - 1; k >= 0; --k) tokens_of_block(op, grad, tiles, part(k), tiles.borders + k * plane, partial);
  for (int64_t e = 0; e < channels; ++e)
    for (int64_t n = 0; n < op.states; ++n) {
      grad.dbefore[state + e * op.states + n] = tiles.dh[n * kBlock + e];
      grad.da[state + e * op.states + n] = tiles.da[n * kBlock + e];
    }
}

void backward(const SelectiveScan& op, const SelectiveScanGradients& grad, int64_t begin, int64_t end, float* memory) {
  const Tiles tiles = tiles_in(memory, op);
  const int64_t in_row = (op.channels + kBlock - 1) / kBlock;
  for (int64_t i = begin; i < end; ++i) block(op, grad, tiles, i / in_row, i % in_row);
}

}  // namespace

extern const SelectiveScanBackward selective_scan_backward;
const SelectiveScanBackward selective_scan_backward = {scratch, backward};

}  // namespace braidlm::BRAIDLM_LEVEL
