// Rotary positions, and the new token's key and value written where later tokens find them.
#include "step.h"

#include <cmath>

#include "../plan/steps.h"

namespace braidlm::BRAIDLM_LEVEL {
namespace {

// Pair (i, i + pairs) of a head turned by its angle (Su et al. 2021).
void rotate(float* x, const float* cosines, const float* sines, int64_t pairs) {
  for (int64_t i = 0; i < pairs; ++i) {
    const float a = x[i], b = x[i + pairs];
    x[i] = a * cosines[i] - b * sines[i];
    x[i + pairs] = b * cosines[i] + a * sines[i];
  }
}

// e4m3: four bits of exponent, three of mantissa; rounded to nearest even, saturating at 448.
uint8_t to_e4m3(float x) {
  if (x != x) return 0x7f;
  const uint32_t sign = bits_as<uint32_t>(x) >> 24 & 0x80u;
  const float magnitude = std::fabs(x) < 448.0f ? std::fabs(x) : 448.0f;
  if (magnitude < 0x1p-6f) return uint8_t(sign | uint32_t(std::nearbyint(magnitude * 0x1p9f)));
  const uint32_t bits = bits_as<uint32_t>(magnitude), rounded = bits + 0x7ffffu + (bits >> 20 & 1u);
  return uint8_t(sign | ((rounded >> 20) - (120u << 3)));
}

// IEEE half, rounded to nearest even, saturating at 65504.
uint16_t to_half(float x) {
  const uint32_t sign = bits_as<uint32_t>(x) >> 16 & 0x8000u;
  if (x != x) return uint16_t(sign | 0x7e00u);
  const float magnitude = std::fabs(x) < 65504.0f ? std::fabs(x) : 65504.0f;
  if (magnitude < 0x1p-14f) return uint16_t(sign | uint32_t(std::nearbyint(magnitude * 0x1p24f)));
  const uint32_t bits = bits_as<uint32_t>(magnitude), rounded = bits + 0xfffu + (bits >> 13 & 1u);
  return uint16_t(sign | ((rounded >> 13) - (112u << 10)));
}

void write(KvFormat format, const float* x, int64_t width, int64_t begin, void* data, float* scale) {
  switch (format) {
    case KvFormat::kFloat:
      std::memcpy(static_cast<float*>(data) + begin, x, width * sizeof(float));
      break;
    case KvFormat::kBFloat16:
      for (int64_t i = 0; i < width; ++i) static_cast<BFloat16*>(data)[begin + i] = to_bfloat16(x[i]);
      break;
    case KvFormat::kHalf:
      for (int64_t i = 0; i < width; ++i) static_cast<Half*>(data)[begin + i].bits = to_half(x[i]);
      break;
    case KvFormat::kFp8:
      for (int64_t i = 0; i < width; ++i) static_cast<uint8_t*>(data)[begin + i] = to_e4m3(x[i]);
      break;
    case KvFormat::kInt8: {
      float most = 1.17549435e-38f;
      for (int64_t i = 0; i < width; ++i) most = std::fabs(x[i]) > most ? std::fabs(x[i]) : most;
      *scale = most / 127;
      for (int64_t i = 0; i < width; ++i) static_cast<int8_t*>(data)[begin + i] = int8_t(std::nearbyint(x[i] / *scale));
      break;
    }
  }
}

// The page of a row's position; if it is not the last one, the sequence has later tokens in this pass.
const KvPage& page_of(const Pass& pass, int kv, int b) {
  const KvRow& row = pass.kv[kv][pass.slots[b]];
  const KvPage* page = row.pages + row.count - 1;
  while (page->start > pass.positions[b]) --page;
  return *page;
}

// The base at a position, or 0 where the op's own frequencies hold.
float grown_base(const Angles& op, int64_t position) {
  const GrowingBase& growing = op.growing;
  if (growing.original == 0 || position < growing.original) return 0;
  const float stretch = growing.factor * float(position + 1) / float(growing.original) - (growing.factor - 1);
  const float dims = float(2 * op.pairs);
  return growing.base * std::pow(stretch, dims / (dims - 2));
}

void angles(const Angles& op, const Member& me) {
  const Range rows = me.share_of(me.pass.rows, 1);
  for (int64_t b = rows.begin; b < rows.end; ++b) {
    float* row = me.pass.row(int(b));
    const int64_t position = me.pass.positions[b];
    const float base = grown_base(op, position);
    for (int64_t i = 0; i < op.pairs; ++i) {
      const float frequency = base > 0 ? 1 / std::pow(base, float(i) / float(op.pairs)) : op.frequencies[i];
      const double angle = double(float(position) * frequency);
      row[op.cosines + i] = op.magnitude * float(std::cos(angle));
      row[op.sines + i] = op.magnitude * float(std::sin(angle));
    }
  }
}

void append_kv(const AppendKv& op, const Member& me) {
  const Pass& pass = me.pass;
  const KvShape& shape = pass.kv_shapes[op.kv];
  const int64_t parts = op.heads + (op.owned ? shape.heads : 0), pairs = op.rotated / 2;
  const Range items = me.share_of(pass.rows * parts, 1);
  for (int64_t item = items.begin; item < items.end; ++item) {
    const int b = int(item / parts);
    const int64_t head = item % parts;
    float* row = pass.row(b);
    if (head < op.heads) {
      if (pairs) rotate(row + op.q + head * shape.k_dim, row + op.cosines, row + op.sines, pairs);
      continue;
    }
    const int64_t g = head - op.heads;
    const KvPage& page = page_of(pass, op.kv, b);
    const int64_t at = (pass.positions[b] - page.start) * shape.heads + g;
    float *k = row + op.k + g * shape.k_dim, *v = row + op.v + g * shape.v_dim;
    if (pairs) rotate(k, row + op.cosines, row + op.sines, pairs);
    write(shape.format, k, shape.k_dim, at * shape.k_dim, page.k, page.k_scale + (page.k_scale ? at : 0));
    write(shape.format, v, shape.v_dim, at * shape.v_dim, page.v, page.v_scale + (page.v_scale ? at : 0));
  }
}

}  // namespace

extern const RotaryStepKernels rotary_step;
const RotaryStepKernels rotary_step = {angles, append_kv};

}  // namespace braidlm::BRAIDLM_LEVEL
