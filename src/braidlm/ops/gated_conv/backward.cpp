// Gradients of the modal recurrence, which run through it backwards: with g_t = gate_t dy_t,
//
//   l_t = conj(residue) g_t + conj(pole) l_{t+1}     du_t = D g_t + sum_m Re(l_t)
//   dpole = sum_t conj(s_{t-1}) l_t                  dresidue = sum_t conj(s_t) g_t
//
// States are kept at the borders of blocks of time only, and computed again from there: running the
// recurrence itself backwards would divide by poles. A vector holds channels, as in the forward pass.
#include "../csrc/staging.h"
#include "modes.h"
#include "native.h"

namespace braidlm::BRAIDLM_LEVEL {
namespace {

// Modes that go side by side: as many as their constants and sums leave registers for.
constexpr int kTogether = kSimdWidth == 16 ? 2 : 1;

struct Tiles {
  float *u, *gate, *dy;  // [kTokens, kBlock]
  float *y, *g, *du;     // likewise: before the gate, its gradient, and that of u
  Planes poles, residues;
  Planes back;  // conj(pole) l of the token behind
  Planes dpoles, dresidues;
  float* dd;       // [kBlock]
  float* states;   // [kTokens + 1, kTogether, 2, kSimdWidth]: of some modes, before and after each token
  float* borders;  // [blocks of time, 2, modes, kBlock]: the states before each
};

int64_t times_of(const GatedConv& op) { return (op.length + kTokens - 1) / kTokens; }

int64_t scratch(const GatedConv& op) {
  return 6 * kTokens * kBlock + (10 + 2 * times_of(op)) * op.modes * kBlock + kBlock +
         (kTokens + 1) * kTogether * 2 * kSimdWidth;
}

Tiles tiles_in(float* memory, const GatedConv& op) {
  const auto take = [&memory](int64_t count) {
    float* const taken = memory;
    memory += count;
    return taken;
  };
  Tiles tiles;
  for (float** tile : {&tiles.u, &tiles.gate, &tiles.dy, &tiles.y, &tiles.g, &tiles.du}) *tile = take(kTokens * kBlock);
  for (Planes* planes : {&tiles.poles, &tiles.residues, &tiles.back, &tiles.dpoles, &tiles.dresidues})
    *planes = {take(op.modes * kBlock), take(op.modes * kBlock)};
  tiles.dd = take(kBlock);
  tiles.states = take((kTokens + 1) * kTogether * 2 * kSimdWidth);
  tiles.borders = take(2 * times_of(op) * op.modes * kBlock);
  return tiles;
}

Planes border(const Tiles& tiles, const GatedConv& op, int64_t time) {
  float* const re = tiles.borders + 2 * time * op.modes * kBlock;
  return {re, re + op.modes * kBlock};
}

// One complex number an element, of each of some modes.
template <int M>
struct Numbers {
  Floats re[M], im[M];

  Numbers() : re{}, im{} {}
  Numbers(const Planes& planes, int64_t channel, int64_t m) {
    unrolled<M>([&](auto k) {
      re[k] = load(planes.re + (m + k) * kBlock + channel);
      im[k] = load(planes.im + (m + k) * kBlock + channel);
    });
  }
  void to(const Planes& planes, int64_t channel, int64_t m) const {
    unrolled<M>([&](auto k) {
      store(planes.re + (m + k) * kBlock + channel, re[k]);
      store(planes.im + (m + k) * kBlock + channel, im[k]);
    });
  }
};

// s = pole s + u.
template <int M>
void step(Numbers<M>& s, const Numbers<M>& pole, Floats u) {
  unrolled<M>([&](auto k) {
    const Floats next = pole.re[k] * s.re[k] + (u - pole.im[k] * s.im[k]);
    s.im[k] = pole.re[k] * s.im[k] + pole.im[k] * s.re[k];
    s.re[k] = next;
  });
}

// Modes m ... m + M - 1 of one vector of channels, from one border to the next.
template <int M>
void advance(const Tiles& tiles, const Planes& from, const Planes& to, int64_t channel, int64_t m) {
  Numbers<M> s(from, channel, m);
  const Numbers<M> pole(tiles.poles, channel, m);
  for (int64_t i = channel; i < kTokens * kBlock; i += kBlock) step(s, pole, load(tiles.u + i));
  s.to(to, channel, m);
}

// Likewise, through the tokens of a block: keeps the states, and adds to y.
template <int M>
void forwards(const Tiles& tiles, const Planes& from, int64_t tokens, int64_t channel, int64_t m) {
  Numbers<M> s(from, channel, m);
  const Numbers<M> pole(tiles.poles, channel, m), residue(tiles.residues, channel, m);
  float* kept = tiles.states;
  const auto keep = [&] {
    unrolled<M>([&](auto k) {
      store(kept + 2 * k * kSimdWidth, s.re[k]);
      store(kept + (2 * k + 1) * kSimdWidth, s.im[k]);
    });
    kept += 2 * M * kSimdWidth;
  };
  keep();
  for (int64_t i = channel; i < tokens * kBlock; i += kBlock) {
    step(s, pole, load(tiles.u + i));
    Floats y = load(tiles.y + i);
    unrolled<M>([&](auto k) {
      y += residue.re[k] * s.re[k];
      y -= residue.im[k] * s.im[k];
    });
    store(tiles.y + i, y);
    keep();
  }
}

// Back again: adds to du and to the gradients of poles and residues.
template <int M>
void backwards(const Tiles& tiles, int64_t tokens, int64_t channel, int64_t m) {
  Numbers<M> back(tiles.back, channel, m), dpole, dresidue;
  const Numbers<M> pole(tiles.poles, channel, m), residue(tiles.residues, channel, m);
  const auto state = [&](int64_t t, int part) { return load(tiles.states + (t * 2 * M + part) * kSimdWidth); };
  for (int64_t t = tokens - 1; t >= 0; --t) {
    const Floats g = load(tiles.g + t * kBlock + channel);
    Floats du = load(tiles.du + t * kBlock + channel);
    unrolled<M>([&](auto k) {
      const Floats re = residue.re[k] * g + back.re[k], im = back.im[k] - residue.im[k] * g;
      du += re;
      const Floats s_re = state(t, 2 * k), s_im = state(t, 2 * k + 1);
      dpole.re[k] += s_re * re, dpole.im[k] += s_re * im;
      dpole.re[k] += s_im * im, dpole.im[k] -= s_im * re;
      dresidue.re[k] += state(t + 1, 2 * k) * g, dresidue.im[k] -= state(t + 1, 2 * k + 1) * g;
      back.re[k] = pole.re[k] * re + pole.im[k] * im;
      back.im[k] = pole.re[k] * im - pole.im[k] * re;
    });
    store(tiles.du + t * kBlock + channel, du);
  }
  back.to(tiles.back, channel, m);
  // Sums of a block first, then of all blocks: sums of sums lose less than long ones.
  const auto add = [&](const Planes& to, Numbers<M>& more) {
    const Numbers<M> before(to, channel, m);
    unrolled<M>([&](auto k) { more.re[k] += before.re[k], more.im[k] += before.im[k]; });
    more.to(to, channel, m);
  };
  add(tiles.dpoles, dpole);
  add(tiles.dresidues, dresidue);
}

// body(m, modes) for all modes, of which `modes` go together.
template <class Body>
void by_modes(int64_t modes, Body body) {
  int64_t m = 0;
  for (; m + kTogether <= modes; m += kTogether) body(m, std::integral_constant<int, kTogether>{});
  for (; m < modes; ++m) body(m, std::integral_constant<int, 1>{});
}

// The block of tokens `part`, whose states before it are `from`.
void tokens_of_block(const GatedConv& op, const GatedConvGradients& grad, const Tiles& tiles, const Planes& from,
                     const Part& part) {
  read(op.u, part, tiles.u, kBlock);
  read(op.gate, part, tiles.gate, kBlock);
  read(grad.dy, part, tiles.dy, kBlock);
  for (int64_t v = 0; v < part.channels; v += kSimdWidth) {
    const int active = int(part.channels - v < kSimdWidth ? part.channels - v : kSimdWidth);
    const Floats d = load_part(op.d + part.channel + v, active);
    const int64_t end = part.tokens * kBlock;
    Floats dd = {};
    for (int64_t i = v; i < end; i += kBlock) {
      const Floats u = load(tiles.u + i), g = load(tiles.gate + i) * load(tiles.dy + i);
      store(tiles.g + i, g);
      store(tiles.y + i, d * u);
      store(tiles.du + i, d * g);
      dd += g * u;
    }
    store(tiles.dd + v, load(tiles.dd + v) + dd);
    by_modes(op.modes, [&](int64_t m, auto together) {
      forwards<together>(tiles, from, part.tokens, v, m);
      backwards<together>(tiles, part.tokens, v, m);
    });
    for (int64_t i = v; i < end; i += kBlock) store(tiles.y + i, load(tiles.dy + i) * load(tiles.y + i));
  }
  write(grad.dgate, part, tiles.y, kBlock);
  write(grad.du, part, tiles.du, kBlock);
}

// All tokens of one block of channels.
void block(const GatedConv& op, const GatedConvGradients& grad, const Tiles& tiles, const Channels& of) {
  read_filters(op, of, op.poles, tiles.poles);
  read_filters(op, of, op.residues, tiles.residues);
  read_states(op, of, grad.dafter, tiles.back);
  for (const Planes& planes : {tiles.dpoles, tiles.dresidues}) {
    std::memset(planes.re, 0, op.modes * kBlock * sizeof(float));
    std::memset(planes.im, 0, op.modes * kBlock * sizeof(float));
  }
  std::memset(tiles.dd, 0, kBlock * sizeof(float));
  const int64_t times = times_of(op);
  if (times) read_states(op, of, op.before, border(tiles, op, 0));
  for (int64_t i = 0; i + 1 < times; ++i) {
    read(op.u, {of.row, i * kTokens, kTokens, of.first, of.count}, tiles.u, kBlock);
    for (int64_t v = 0; v < of.count; v += kSimdWidth)
      by_modes(op.modes, [&](int64_t m, auto together) {
        advance<together>(tiles, border(tiles, op, i), border(tiles, op, i + 1), v, m);
      });
  }
  for (int64_t i = times - 1; i >= 0; --i) {
    const int64_t t = i * kTokens, tokens = op.length - t < kTokens ? op.length - t : kTokens;
    tokens_of_block(op, grad, tiles, border(tiles, op, i), {of.row, t, tokens, of.first, of.count});
  }
  write_states(op, of, tiles.back, grad.dbefore);
  write_states(op, of, tiles.dpoles, grad.dpoles);
  write_states(op, of, tiles.dresidues, grad.dresidues);
  std::memcpy(grad.dd + of.row * op.channels + of.first, tiles.dd, of.count * sizeof(float));
}

void backward(const GatedConv& op, const GatedConvGradients& grad, int64_t begin, int64_t end, float* memory) {
  const Tiles tiles = tiles_in(memory, op);
  for (int64_t i = begin; i < end; ++i) block(op, grad, tiles, channels_at(op, i));
}

}  // namespace

extern const GatedConvBackwardKernels gated_conv_backward;
const GatedConvBackwardKernels gated_conv_backward = {scratch, backward};

}  // namespace braidlm::BRAIDLM_LEVEL
