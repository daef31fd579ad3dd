// The convolution as its modal recurrence: 6 multiply-adds a mode and token, fewer than a transform
// of any length needs, and no memory but the state. A vector holds channels; the state of a few modes
// stays in registers while a block of time goes by.
#include "native.h"

#include "../csrc/staging.h"
#include "modes.h"

namespace braidlm::BRAIDLM_LEVEL {
namespace {

// Modes whose recurrences run side by side: as many as their constants leave registers for.
constexpr int kTogether = 2;

struct Tiles {
  float *u, *gate, *y;  // [kTokens, kBlock]
  Planes poles, residues, state;
};

int64_t scratch(const GatedConv& op) { return 3 * kTokens * kBlock + 6 * op.modes * kBlock; }

Tiles tiles_in(float* memory, const GatedConv& op) {
  const int64_t tile = kTokens * kBlock, plane = op.modes * kBlock;
  float* planes = memory + 3 * tile;
  return {memory,
          memory + tile,
          memory + 2 * tile,
          {planes, planes + plane},
          {planes + 2 * plane, planes + 3 * plane},
          {planes + 4 * plane, planes + 5 * plane}};
}

// Modes m ... m + M - 1 of one vector of channels, through the tokens of a block.
template <int M>
void march(const Tiles& tiles, int64_t tokens, int64_t channel, int64_t m) {
  Floats re[M], im[M], pole_re[M], pole_im[M], residue_re[M], residue_im[M];
  unrolled<M>([&](auto k) {
    const int64_t i = (m + k) * kBlock + channel;
    re[k] = load(tiles.state.re + i), im[k] = load(tiles.state.im + i);
    pole_re[k] = load(tiles.poles.re + i), pole_im[k] = load(tiles.poles.im + i);
    residue_re[k] = load(tiles.residues.re + i), residue_im[k] = load(tiles.residues.im + i);
  });
  for (int64_t i = channel; i < tokens * kBlock; i += kBlock) {
    const Floats u = load(tiles.u + i);
    Floats y = load(tiles.y + i);
    unrolled<M>([&](auto k) {
      const Floats next = pole_re[k] * re[k] + (u - pole_im[k] * im[k]);
      im[k] = pole_re[k] * im[k] + pole_im[k] * re[k];
      re[k] = next;
      y += residue_re[k] * re[k];
      y -= residue_im[k] * im[k];
    });
    store(tiles.y + i, y);
  }
  unrolled<M>([&](auto k) {
    const int64_t i = (m + k) * kBlock + channel;
    store(tiles.state.re + i, re[k]);
    store(tiles.state.im + i, im[k]);
  });
}

void tokens_of_block(const GatedConv& op, const Tiles& tiles, const Part& part) {
  read(op.u, part, tiles.u, kBlock);
  read(op.gate, part, tiles.gate, kBlock);
  for (int64_t v = 0; v < part.channels; v += kSimdWidth) {
    const int active = int(part.channels - v < kSimdWidth ? part.channels - v : kSimdWidth);
    const Floats d = load_part(op.d + part.channel + v, active);
    const int64_t end = part.tokens * kBlock;
    for (int64_t i = v; i < end; i += kBlock) store(tiles.y + i, d * load(tiles.u + i));
    int64_t m = 0;
    for (; m + kTogether <= op.modes; m += kTogether) march<kTogether>(tiles, part.tokens, v, m);
    for (; m < op.modes; ++m) march<1>(tiles, part.tokens, v, m);
    for (int64_t i = v; i < end; i += kBlock) store(tiles.y + i, load(tiles.gate + i) * load(tiles.y + i));
  }
  write(op.y, part, tiles.y, kBlock);
}

void block(const GatedConv& op, const Tiles& tiles, const Channels& channels) {
  read_filters(op, channels, op.poles, tiles.poles);
  read_filters(op, channels, op.residues, tiles.residues);
  read_states(op, channels, op.before, tiles.state);
  for (int64_t t = 0; t < op.length; t += kTokens) {
    const int64_t tokens = op.length - t < kTokens ? op.length - t : kTokens;
    tokens_of_block(op, tiles, {channels.row, t, tokens, channels.first, channels.count});
  }
  write_states(op, channels, tiles.state, op.after);
}

void forward(const GatedConv& op, int64_t begin, int64_t end, float* memory) {
  const Tiles tiles = tiles_in(memory, op);
  for (int64_t i = begin; i < end; ++i) block(op, tiles, channels_at(op, i));
}

}  // namespace

extern const GatedConvNativeKernels gated_conv_native;
const GatedConvNativeKernels gated_conv_native = {scratch, forward};

}  // namespace braidlm::BRAIDLM_LEVEL
