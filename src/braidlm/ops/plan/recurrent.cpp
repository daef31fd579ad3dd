// One token of every recurrence. States are laid out with channels innermost, so that lanes are channels.
#include <cmath>

#include "walk.h"

namespace braidlm::BRAIDLM_LEVEL {
namespace {

// Channels that a thread takes at least.
constexpr int64_t kGrain = 64;

template <class T>
T* state_of(const Pass& pass, int state, int b) {
  return static_cast<T*>(pass.states[state].base) + pass.slots[b] * pass.states[state].stride;
}

template <class T>
void convolve(const Conv& op, const Pass& pass, int b, Range channels, T* tail) {
  const float* x = pass.row(b) + op.x;
  float* y = pass.row(b) + op.y;
  by_vectors(channels, [&](int64_t c, int lanes) {
    const Floats newest = at(x + c, lanes);
    Floats total = op.bias ? at(op.bias + c, lanes) : Floats{};
    for (int64_t tap = 0; tap + 1 < op.taps; ++tap)
      total += at(op.weight + tap * op.channels + c, lanes) * at(tail + tap * op.channels + c, lanes);
    total += at(op.weight + (op.taps - 1) * op.channels + c, lanes) * newest;
    for (int64_t tap = 0; tap + 2 < op.taps; ++tap)
      put(tail + tap * op.channels + c, lanes, at(tail + (tap + 1) * op.channels + c, lanes));
    if (op.taps > 1) put(tail + (op.taps - 2) * op.channels + c, lanes, newest);
    put(y + c, lanes, op.silu ? silu(total) : total);
  });
}

// rms_norm(x) weight of a short vector.
void small_norm(const MambaStep& op, const float* x, const float* weight, float* y) {
  float squares = 0;
  for (int64_t n = 0; n < op.states; ++n) squares += x[n] * x[n];
  const float mean = squares / float(op.states);
  const float scale = op.eps_outside_root ? 1 / (std::sqrt(mean) + op.eps) : 1 / std::sqrt(mean + op.eps);
  for (int64_t n = 0; n < op.states; ++n) y[n] = x[n] * scale * weight[n];
}

void head_step(const SsdStep& op, const float* row, int64_t head, float* state, float* y) {
  const int64_t group = head / (op.heads / op.groups), width = op.states;
  const float *b = row + op.b + group * width, *c = row + op.c + group * width;
  const float* x = row + op.x + head * op.head_dim;
  const float raw = softplus(row[op.dt + head] + op.dt_bias[head]);
  const float dt = raw < op.dt_min ? op.dt_min : raw > op.dt_max ? op.dt_max : raw;
  const float decay = exp(dt * op.a[head]);
  for (int64_t p = 0; p < op.head_dim; ++p) {
    float* h = state + p * width;
    const float added = dt * x[p];
    Floats dot = {};
    by_vectors({0, width}, [&](int64_t n, int lanes) {
      const Floats next = at(h + n, lanes) * decay + at(b + n, lanes) * added;
      put(h + n, lanes, next);
      dot += next * at(c + n, lanes);
    });
    y[p] = sum(dot) + op.d[head] * x[p];
  }
}

}  // namespace

void run(const Conv& op, const Member& me) {
  const Range channels = me.share_of(op.channels, kGrain);
  for (int b = 0; b < me.pass.rows; ++b) {
    if (me.pass.states[op.state].dtype == Dtype::kFloat)
      convolve(op, me.pass, b, channels, state_of<float>(me.pass, op.state, b));
    else
      convolve(op, me.pass, b, channels, state_of<BFloat16>(me.pass, op.state, b));
  }
}

void run(const MambaStep& op, const Member& me) {
  const Range channels = me.share_of(op.channels, kGrain);
  float b_normed[256], c_normed[256];
  for (int r = 0; r < me.pass.rows; ++r) {
    float* row = me.pass.row(r);
    float* state = state_of<float>(me.pass, op.state, r);
    const float *b = row + op.b, *c = row + op.c;
    if (op.b_norm) {
      small_norm(op, b, op.b_norm, b_normed);
      small_norm(op, c, op.c_norm, c_normed);
      b = b_normed;
      c = c_normed;
    }
    by_vectors(channels, [&](int64_t e, int lanes) {
      const Floats x = at(row + op.x + e, lanes);
      const Floats dt = softplus(at(row + op.dt + e, lanes) + at(op.dt_bias + e, lanes));
      const Floats added = dt * x;
      Floats y = at(op.d + e, lanes) * x;
      for (int64_t n = 0; n < op.states; ++n) {
        float* h = state + n * op.channels + e;
        const Floats next = exp(dt * at(op.a + n * op.channels + e, lanes)) * at(h, lanes) + added * b[n];
        put(h, lanes, next);
        y += next * c[n];
      }
      put(row + op.y + e, lanes, y * silu(at(row + op.z + e, lanes)));
    });
  }
}

void run(const SsdStep& op, const Member& me) {
  const Range items = me.share_of(me.pass.sequences * op.heads, 1);
  for (int64_t item = items.begin; item < items.end; ++item) {
    const int sequence = int(item / op.heads);
    const int64_t head = item % op.heads;
    for (int r = me.pass.first_rows[sequence]; r < me.pass.first_rows[sequence + 1]; ++r) {
      float* row = me.pass.row(r);
      float* state = state_of<float>(me.pass, op.state, r) + head * op.head_dim * op.states;
      head_step(op, row, head, state, row + op.y + head * op.head_dim);
    }
  }
}

void run(const HyenaStep& op, const Member& me) {
  const int64_t wide = op.channels / op.parts, table = op.modes * op.channels;
  const Range channels = me.share_of(op.channels, kGrain);
  for (int r = 0; r < me.pass.rows; ++r) {
    float* row = me.pass.row(r);
    float* state = state_of<float>(me.pass, op.state, r);
    for (int64_t d = channels.begin; d < channels.end;) {
      const int64_t part = d / wide, end = channels.end < (part + 1) * wide ? channels.end : (part + 1) * wide;
      const float* x = row + op.x + part * 3 * wide - part * wide;  // so that x[d] is channel d's gate
      by_vectors({d, end}, [&](int64_t i, int lanes) {
        const Floats u = at(x + wide + i, lanes) * at(x + 2 * wide + i, lanes);
        Floats y = at(op.d + i, lanes) * u;
        for (int64_t m = 0; m < op.modes; ++m) {
          const int64_t k = m * op.channels + i;
          const Floats re = at(state + k, lanes), im = at(state + table + k, lanes);
          const Floats pole_re = at(op.poles + k, lanes), pole_im = at(op.poles + table + k, lanes);
          const Floats next_re = pole_re * re - pole_im * im + u, next_im = pole_re * im + pole_im * re;
          put(state + k, lanes, next_re);
          put(state + table + k, lanes, next_im);
          y += at(op.residues + k, lanes) * next_re - at(op.residues + table + k, lanes) * next_im;
        }
        put(row + op.y + i, lanes, at(x + i, lanes) * y);
      });
      d = end;
    }
  }
}

}  // namespace braidlm::BRAIDLM_LEVEL
