// Gradients of the convolution, for a piece of time and a block of channels at a time. What a piece
// needs of the outputs' gradients beyond its end, it computes again, so that pieces are independent.
#include "../csrc/exp2.h"
#include "../csrc/staging.h"
#include "native.h"

namespace braidlm::BRAIDLM_LEVEL {
namespace {

constexpr int64_t kTokens = kConvGradientTokens, kBlock = kConvGradientChannels;

struct Tiles {
  float* x;        // [kTokens + 2 (taps - 1), kBlock]: from the first input that the piece sees
  float* g;        // [kTokens + taps - 1, kBlock]: gradients of what enters the activation
  float* weights;  // [taps + 1, kBlock]: the bias last
  float* sums;     // likewise: their gradients
};

int64_t scratch(const CausalConv1d& op) { return (2 * kTokens + 3 * (op.taps - 1) + 2 * (op.taps + 1)) * kBlock; }

Tiles tiles_in(float* memory, const CausalConv1d& op) {
  float* const g = memory + (kTokens + 2 * (op.taps - 1)) * kBlock;
  float* const weights = g + (kTokens + op.taps - 1) * kBlock;
  return {memory, g, weights, weights + (op.taps + 1) * kBlock};
}

// The piece's inputs and outputs' gradients; zero where there are none.
void read_piece(const CausalConv1d& op, const CausalConv1dGradients& grad, const Tiles& tiles, const Part& part) {
  const int64_t before = op.taps - 1;
  const int64_t from_tail = part.token < before ? before - part.token : 0;  // inputs before the row's start
  if (from_tail > 0) {
    const Sequence tail = {const_cast<void*>(op.tail), op.x.dtype, before * op.channels, op.channels};
    read(tail, {part.row, before - from_tail, from_tail, part.channel, part.channels}, tiles.x, kBlock);
  }
  const int64_t last = part.token + part.tokens + before, end = last < op.length ? last : op.length;
  const int64_t first = part.token - before + from_tail, known = end - part.token;
  read(op.x, {part.row, first, end - first, part.channel, part.channels}, tiles.x + from_tail * kBlock, kBlock);
  read(grad.dy, {part.row, part.token, known, part.channel, part.channels}, tiles.g, kBlock);
  std::memset(tiles.g + known * kBlock, 0, (part.tokens + before - known) * kBlock * sizeof(float));
  std::memset(tiles.x + (end - part.token + before) * kBlock, 0, (last - end) * kBlock * sizeof(float));
}

void read_weights(const CausalConv1d& op, const Tiles& tiles, int64_t channel, int64_t channels) {
  for (int64_t k = 0; k <= op.taps; ++k) {
    float* const to = tiles.weights + k * kBlock;
    const float* from = k < op.taps ? op.weight + k * op.channels : op.bias;
    for (int64_t c = 0; c < kBlock; ++c) to[c] = from && c < channels ? from[channel + c] : 0;
  }
}

// Gradients of taps k ... k + S - 1, side by side to hide the latency of a multiply-add.
template <int S>
void taps_of_vector(const Tiles& tiles, int64_t tokens, int64_t v, int64_t k) {
  Floats sums[S] = {};
  for (int64_t t = 0; t < tokens; ++t) {
    const Floats g = load(tiles.g + t * kBlock + v);
    unrolled<S>([&](auto s) { sums[s] += g * load(tiles.x + (t + k + s) * kBlock + v); });
  }
  unrolled<S>([&](auto s) { store(tiles.sums + (k + s) * kBlock + v, sums[s]); });
}

// `Taps` is the number of taps, or 0 for any number. In place: inputs become their gradients.
template <int Taps>
void vector_of_channels(const CausalConv1d& op, const Tiles& tiles, int64_t tokens, int64_t v) {
  const int64_t taps = Taps ? Taps : op.taps, before = taps - 1;
  float *const x = tiles.x + v, *const g = tiles.g + v, *const w = tiles.weights + v;
  if (op.silu)
    for (int64_t t = 0; t < tokens + before; ++t) {
      Floats sum = load(w + taps * kBlock);
      for (int64_t k = 0; k < taps; ++k) sum += load(w + k * kBlock) * load(x + (t + k) * kBlock);
      const Floats slope = sigmoid(sum);
      store(g + t * kBlock, load(g + t * kBlock) * slope * (1.0f + sum * (1.0f - slope)));
    }
  int64_t tap = 0;
  for (; tap + 4 <= taps; tap += 4) taps_of_vector<4>(tiles, tokens, v, tap);
  for (; tap < taps; ++tap) taps_of_vector<1>(tiles, tokens, v, tap);
  Floats bias = {};
  for (int64_t t = 0; t < tokens; ++t) bias += load(g + t * kBlock);
  store(tiles.sums + taps * kBlock + v, bias);
  for (int64_t t = 0; t < tokens; ++t) {
    Floats dx = {};
    for (int64_t k = 0; k < taps; ++k) dx += load(w + k * kBlock) * load(g + (t + before - k) * kBlock);
    store(x + t * kBlock, dx);
  }
}

// What the first outputs say of the inputs before the row's start.
void tail_of_row(const CausalConv1d& op, const Tiles& tiles, const Part& part, float* dtail) {
  const int64_t before = op.taps - 1;
  for (int64_t j = 0; j < before; ++j)
    for (int64_t c = 0; c < part.channels; ++c) {
      float sum = 0;
      for (int64_t k = 0; k <= j; ++k) sum += tiles.weights[k * kBlock + c] * tiles.g[(j - k) * kBlock + c];
      dtail[(part.row * before + j) * op.channels + part.channel + c] = sum;
    }
}

void piece(const CausalConv1d& op, const CausalConv1dGradients& grad, const Tiles& tiles, const Part& part,
           int64_t partial) {
  read_piece(op, grad, tiles, part);
  read_weights(op, tiles, part.channel, part.channels);
  for (int64_t v = 0; v < part.channels; v += kSimdWidth)
    if (op.taps == 4)
      vector_of_channels<4>(op, tiles, part.tokens, v);
    else if (op.taps == 3)
      vector_of_channels<3>(op, tiles, part.tokens, v);
    else
      vector_of_channels<0>(op, tiles, part.tokens, v);
  write(grad.dx, part, tiles.x, kBlock);
  if (part.token == 0) tail_of_row(op, tiles, part, grad.dtail);
  for (int64_t k = 0; k <= op.taps; ++k)
    std::memcpy(grad.dweight + (partial * (op.taps + 1) + k) * op.channels + part.channel, tiles.sums + k * kBlock,
                part.channels * sizeof(float));
}

void backward(const CausalConv1d& op, const CausalConv1dGradients& grad, int64_t begin, int64_t end, float* memory) {
  const Tiles tiles = tiles_in(memory, op);
  const int64_t blocks = (op.channels + kBlock - 1) / kBlock, in_row = (op.length + kTokens - 1) / kTokens;
  for (int64_t i = begin; i < end; ++i) {
    const int64_t at = i / blocks, t = at % in_row * kTokens, c = i % blocks * kBlock;
    const int64_t tokens = op.length - t < kTokens ? op.length - t : kTokens;
    piece(op, grad, tiles, {at / in_row, t, tokens, c, op.channels - c < kBlock ? op.channels - c : kBlock}, at);
  }
}

}  // namespace

extern const CausalConv1dBackwardKernels causal_conv1d_backward;
const CausalConv1dBackwardKernels causal_conv1d_backward = {scratch, backward};

}  // namespace braidlm::BRAIDLM_LEVEL
