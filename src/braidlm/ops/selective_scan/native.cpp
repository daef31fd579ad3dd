// A vector holds channels. The state of a few (channel, state) pairs stays in registers while a block of
// time goes by; nothing but the block is ever held of a sequence.
#include "native.h"

#include "../csrc/exp2.h"
#include "../csrc/staging.h"

namespace braidlm::BRAIDLM_LEVEL {
namespace {

constexpr int64_t kTokens = kScanTokens, kBlock = kScanChannels;
// States whose recurrences run side by side: enough of them to hide the latency of an exponential.
constexpr int kTogether = 4;

struct Tiles {
  float *x, *dt, *y;  // [kTokens, kBlock]
  float *b, *c;       // [kTokens, width]
  float *h, *a;       // [states, kBlock]; `a` in units of log 2
  int64_t width;
};

int64_t width_of(const SelectiveScan& op) { return padded(op.states, kSimdWidth); }

int64_t scratch(const SelectiveScan& op) { return kTokens * (3 * kBlock + 2 * width_of(op)) + 2 * op.states * kBlock; }

Tiles tiles_in(float* memory, const SelectiveScan& op) {
  Tiles tiles;
  tiles.width = width_of(op);
  tiles.x = memory;
  tiles.dt = tiles.x + kTokens * kBlock;
  tiles.y = tiles.dt + kTokens * kBlock;
  tiles.b = tiles.y + kTokens * kBlock;
  tiles.c = tiles.b + kTokens * tiles.width;
  tiles.h = tiles.c + kTokens * tiles.width;
  tiles.a = tiles.h + op.states * kBlock;
  return tiles;
}

// States n ... n + S - 1 of one vector of channels, through the tokens of a block. `x` holds dt x.
template <int S>
void march(const Tiles& tiles, int64_t tokens, int64_t channel, int64_t n) {
  Floats h[S], a[S];
  unrolled<S>([&](auto s) {
    h[s] = load(tiles.h + (n + s) * kBlock + channel);
    a[s] = load(tiles.a + (n + s) * kBlock + channel);
  });
  const float *b = tiles.b + n, *c = tiles.c + n;
  for (int64_t t = 0; t < tokens; ++t, b += tiles.width, c += tiles.width) {
    const int64_t i = t * kBlock + channel;
    const Floats dt = load(tiles.dt + i), added = load(tiles.x + i);
    Floats y = load(tiles.y + i);
    unrolled<S>([&](auto s) {
      h[s] = exp2(dt * a[s]) * h[s] + added * b[s];
      y += h[s] * c[s];
    });
    store(tiles.y + i, y);
  }
  unrolled<S>([&](auto s) { store(tiles.h + (n + s) * kBlock + channel, h[s]); });
}

// tile = softplus(tile + bias)
void to_time_steps(const float* bias, float* tile, const Part& part) {
  for (int64_t v = 0; v < part.channels; v += kSimdWidth) {
    const int active = int(part.channels - v < kSimdWidth ? part.channels - v : kSimdWidth);
    const Floats shift = load_part(bias + part.channel + v, active);
    for (int64_t i = v; i < part.tokens * kBlock; i += kBlock) store(tile + i, softplus(load(tile + i) + shift));
  }
}

void tokens_of_block(const SelectiveScan& op, const Tiles& tiles, const Part& part) {
  read(op.x, part, tiles.x, kBlock);
  read(op.dt, part, tiles.dt, kBlock);
  if (op.dt_bias) to_time_steps(op.dt_bias, tiles.dt, part);
  const int64_t next = part.token + kTokens, left = op.length - next;
  if (left > 0)
    for (const Sequence* from : {&op.x, &op.dt, &op.gate})
      if (from->data) prefetch(*from, {part.row, next, left < kTokens ? left : kTokens, part.channel, part.channels});
  const Part states = {part.row, part.token, part.tokens, 0, op.states};
  read(op.b, states, tiles.b, tiles.width);
  read(op.c, states, tiles.c, tiles.width);
  for (int64_t v = 0; v < part.channels; v += kSimdWidth) {
    const int active = int(part.channels - v < kSimdWidth ? part.channels - v : kSimdWidth);
    const Floats d = load_part(op.d + part.channel + v, active);
    for (int64_t i = v; i < part.tokens * kBlock; i += kBlock) {
      const Floats x = load(tiles.x + i);
      store(tiles.y + i, d * x);
      store(tiles.x + i, load(tiles.dt + i) * x);
    }
    int64_t n = 0;
    for (; n + kTogether <= op.states; n += kTogether) march<kTogether>(tiles, part.tokens, v, n);
    for (; n < op.states; ++n) march<1>(tiles, part.tokens, v, n);
  }
  if (op.gate.data) {
    read(op.gate, part, tiles.x, kBlock);
    for (int64_t i = 0; i < part.tokens * kBlock; i += kSimdWidth) {
      const Floats gate = load(tiles.x + i);
      store(tiles.y + i, load(tiles.y + i) * gate * sigmoid(gate));
    }
  }
  write(op.y, part, tiles.y, kBlock);
}

void block(const SelectiveScan& op, const Tiles& tiles, int64_t row, int64_t channel) {
  const int64_t channels = op.channels - channel < kBlock ? op.channels - channel : kBlock;
  const int64_t state = (row * op.channels + channel) * op.states;
  for (int64_t n = 0; n < op.states; ++n)
    for (int64_t e = 0; e < kBlock; ++e) {
      const bool held = e < channels;
      tiles.h[n * kBlock + e] = held ? op.before[state + e * op.states + n] : 0;
      tiles.a[n * kBlock + e] = held ? op.a[(channel + e) * op.states + n] * kLog2E : 0;
    }
  const int64_t plane = op.states * kBlock;
  const int64_t at = row * scan_blocks(op) + channel / kBlock;
  float* border = op.borders ? op.borders + at * scan_pieces(op) * plane : nullptr;
  for (int64_t t = 0; t < op.length; t += kTokens) {
    const int64_t tokens = op.length - t < kTokens ? op.length - t : kTokens;
    if (border) std::memcpy(border, tiles.h, plane * sizeof(float)), border += plane;
    tokens_of_block(op, tiles, {row, t, tokens, channel, channels});
  }
  for (int64_t e = 0; e < channels; ++e)
    for (int64_t n = 0; n < op.states; ++n) op.after[state + e * op.states + n] = tiles.h[n * kBlock + e];
}

void forward(const SelectiveScan& op, int64_t begin, int64_t end, float* memory) {
  const Tiles tiles = tiles_in(memory, op);
  const int64_t in_row = scan_blocks(op);
  for (int64_t i = begin; i < end; ++i) block(op, tiles, i / in_row, i % in_row * kBlock);
}

}  // namespace

extern const SelectiveScanNativeKernels selective_scan_native;
const SelectiveScanNativeKernels selective_scan_native = {scratch, forward};

}  // namespace braidlm::BRAIDLM_LEVEL
