// Attention of one new token a row over pages of keys and values.
//
// A row's pages are attended in spans that begin at multiples of a fixed position, each by itself
// (flash decoding, Dao et al. 2023), and then put together in order: whoever computes a span, the
// result is the same.
#include <cmath>

#include "walk.h"

namespace braidlm::BRAIDLM_LEVEL {
namespace {

constexpr int64_t kSpan = kSpanPages * kPagePositions;
constexpr float kNone = -__builtin_inff();

// A vector of numbers as they are stored, without int8's scale.
template <KvFormat F>
inline Floats stored(const void* data, int64_t i) {
  if constexpr (F == KvFormat::kFloat) return load(static_cast<const float*>(data) + i);
  if constexpr (F == KvFormat::kBFloat16) return load(static_cast<const BFloat16*>(data) + i);
  if constexpr (F == KvFormat::kHalf) return load(static_cast<const Half*>(data) + i);
  if constexpr (F == KvFormat::kFp8) return widen_e4m3(widen(static_cast<const uint8_t*>(data) + i));
  if constexpr (F == KvFormat::kInt8) {
    // Sign bits are carried up by shifting left and back.
    const Ints wide = bits_as<Ints>(widen(static_cast<const uint8_t*>(data) + i));
    return __builtin_convertvector(wide << 24 >> 24, Floats);
  }
}

template <KvFormat F>
inline float stored_one(const void* data, int64_t i) {
  if constexpr (F == KvFormat::kFloat) return static_cast<const float*>(data)[i];
  if constexpr (F == KvFormat::kBFloat16) return to_float(static_cast<const BFloat16*>(data)[i]);
  if constexpr (F == KvFormat::kHalf) return to_float(static_cast<const Half*>(data)[i]);
  if constexpr (F == KvFormat::kFp8) {
    const uint32_t bits = static_cast<const uint8_t*>(data)[i];
    return bits_as<float>((bits & 0x80u) << 24 | (bits & 0x7fu) << 20) * 0x1p120f;
  }
  if constexpr (F == KvFormat::kInt8) return float(static_cast<const int8_t*>(data)[i]);
}

template <KvFormat F>
inline float dot(const float* q, const void* k, int64_t begin, int64_t width) {
  Floats total = {};
  int64_t i = 0;
  for (; i + kLanes <= width; i += kLanes) total += load(q + i) * stored<F>(k, begin + i);
  float rest = 0;
  for (; i < width; ++i) rest += q[i] * stored_one<F>(k, begin + i);
  return sum(total) + rest;
}

template <KvFormat F>
inline void add(float* y, float weight, const void* v, int64_t begin, int64_t width) {
  int64_t i = 0;
  for (; i + kLanes <= width; i += kLanes) store(y + i, load(y + i) + stored<F>(v, begin + i) * weight);
  for (; i < width; ++i) y[i] += weight * stored_one<F>(v, begin + i);
}

// A partial result: the weighted values, their greatest score, and the sum of their weights.
struct Partial {
  float* values;
  float &most, &total;
};

template <KvFormat F>
void attend_page(const Attend& op, const KvShape& shape, const KvPage& page, int64_t position, int64_t group,
                 const float* q, Partial out) {
  const int64_t last = position - page.start;  // the query's own place
  const int64_t count = last + 1 < kPagePositions ? last + 1 : kPagePositions;
  const int64_t oldest = op.window ? position - op.window + 1 : 0;
  float scores[kPagePositions];
  float most = out.most;
  for (int64_t j = 0; j < count; ++j) {
    const int64_t at = page.start + j;
    if (at < oldest && at >= op.pinned) {
      scores[j] = kNone;
      continue;
    }
    float score = dot<F>(q, page.k, (j * shape.heads + group) * shape.k_dim, shape.k_dim) * op.scale;
    if constexpr (F == KvFormat::kInt8) score *= page.k_scale[j * shape.heads + group];
    scores[j] = score;
    most = score > most || score != score ? score : most;
  }
  if (most == kNone) return;
  if (most != out.most) {
    const float shrink = exp(out.most - most);
    for (int64_t i = 0; i < shape.v_dim; ++i) out.values[i] *= shrink;
    out.total *= shrink;
    out.most = most;
  }
  for (int64_t j = 0; j < count; j += kLanes) {
    const int lanes = int(count - j < kLanes ? count - j : kLanes);
    store_part(scores + j, exp(load_part(scores + j, lanes) - most), lanes);
  }
  for (int64_t j = 0; j < count; ++j) {
    float weight = scores[j];
    if (weight == 0) continue;
    out.total += weight;
    if constexpr (F == KvFormat::kInt8) weight *= page.v_scale[j * shape.heads + group];
    add<F>(out.values, weight, page.v, (j * shape.heads + group) * shape.v_dim, shape.v_dim);
  }
}

void attend_page(const Attend& op, const KvShape& shape, const KvPage& page, int64_t position, int64_t group,
                 const float* q, Partial out) {
  switch (shape.format) {
    case KvFormat::kFloat:
      return attend_page<KvFormat::kFloat>(op, shape, page, position, group, q, out);
    case KvFormat::kBFloat16:
      return attend_page<KvFormat::kBFloat16>(op, shape, page, position, group, q, out);
    case KvFormat::kHalf:
      return attend_page<KvFormat::kHalf>(op, shape, page, position, group, q, out);
    case KvFormat::kFp8:
      return attend_page<KvFormat::kFp8>(op, shape, page, position, group, q, out);
    case KvFormat::kInt8:
      return attend_page<KvFormat::kInt8>(op, shape, page, position, group, q, out);
  }
}

float* partial_of(const Pass& pass, const Attend& op, const KvShape& shape, int b, int64_t head, int64_t span) {
  return pass.partials + ((b * op.heads + head) * pass.spans + span) * (shape.v_dim + 2);
}

// Spans that lie before `position`, the one that holds it included.
int64_t spans_to(int64_t position) { return position / kSpan + 1; }

// The first page from `start` on.
int64_t first_page(const KvRow& kv, int64_t start) {
  int64_t low = 0, high = kv.count;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (kv.pages[middle].start < start)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

void attend_span(const Attend& op, const Pass& pass, int b, int64_t group, int64_t span) {
  const KvShape& shape = pass.kv_shapes[op.kv];
  const KvRow& kv = pass.kv[op.kv][pass.slots[b]];
  const int64_t share = op.heads / shape.heads, position = pass.positions[b];
  for (int64_t head = group * share; head < (group + 1) * share; ++head) {
    float* partial = partial_of(pass, op, shape, b, head, span);
    std::memset(partial, 0, (shape.v_dim + 2) * sizeof(float));
    partial[shape.v_dim] = kNone;
  }
  // Pages outermost: a page's keys are read once from memory for all heads that share them.
  for (int64_t p = first_page(kv, span * kSpan); p < kv.count; ++p) {
    const KvPage& page = kv.pages[p];
    if (page.start >= (span + 1) * kSpan) break;
    for (int64_t head = group * share; head < (group + 1) * share; ++head) {
      float* partial = partial_of(pass, op, shape, b, head, span);
      attend_page(op, shape, page, position, group, pass.row(b) + op.q + head * shape.k_dim,
                  {partial, partial[shape.v_dim], partial[shape.v_dim + 1]});
    }
  }
}

void combine(const Attend& op, const Pass& pass, int b, int64_t head) {
  const KvShape& shape = pass.kv_shapes[op.kv];
  const int64_t spans = spans_to(pass.positions[b]);
  float most = kNone;
  for (int64_t s = 0; s < spans; ++s) {
    const float here = partial_of(pass, op, shape, b, head, s)[shape.v_dim];
    most = here > most || here != here ? here : most;
  }
  float* y = pass.row(b) + op.y + head * shape.v_dim;
  std::memset(y, 0, shape.v_dim * sizeof(float));
  float total = 0;
  for (int64_t s = 0; s < spans; ++s) {
    const float* partial = partial_of(pass, op, shape, b, head, s);
    if (partial[shape.v_dim] == kNone) continue;
    const float weight = exp(partial[shape.v_dim] - most);
    total += weight * partial[shape.v_dim + 1];
    for (int64_t i = 0; i < shape.v_dim; ++i) y[i] += weight * partial[i];
  }
  for (int64_t i = 0; i < shape.v_dim; ++i) y[i] /= total;
}

}  // namespace

void run(const Angles& op, const Member& me) {
  const Range rows = me.share_of(me.pass.rows, 1);
  for (int64_t b = rows.begin; b < rows.end; ++b) {
    float* row = me.pass.row(int(b));
    for (int64_t i = 0; i < op.pairs; ++i) {
      const double angle = double(float(me.pass.positions[b]) * op.frequencies[i]);
      row[op.cosines + i] = float(std::cos(angle));
      row[op.sines + i] = float(std::sin(angle));
    }
  }
}

void run(const Attend& op, const Member& me) {
  const Pass& pass = me.pass;
  const int64_t groups = pass.kv_shapes[op.kv].heads;
  int64_t items = 0;
  for (int b = 0; b < pass.rows; ++b) items += groups * spans_to(pass.positions[b]);
  const Range mine = me.share_of(items, 1);
  int64_t before = 0;
  for (int b = 0; b < pass.rows; ++b) {
    const int64_t spans = spans_to(pass.positions[b]);
    const int64_t begin = mine.begin > before ? mine.begin - before : 0;
    const int64_t end = mine.end - before < groups * spans ? mine.end - before : groups * spans;
    for (int64_t item = begin; item < end; ++item) attend_span(op, pass, b, item / spans, item % spans);
    before += groups * spans;
  }
  me.team.sync();
  const Range heads = me.share_of(pass.rows * op.heads, 1);
  for (int64_t i = heads.begin; i < heads.end; ++i) combine(op, pass, int(i / op.heads), i % op.heads);
}

}  // namespace braidlm::BRAIDLM_LEVEL
