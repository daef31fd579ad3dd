// Attention of one new token a row over pages of keys and values.
//
// A row's pages are attended in spans that begin at multiples of a fixed position, each by itself
// (flash decoding, Dao et al. 2023), and then put together in order: whoever computes a span, the
// result is the same. A thread takes neighbouring key heads of a span, since a page holds all of them position by
// position, and goes through page by page: what memory brings in beside a head is what the next one reads.
#include "step.h"

#include <type_traits>

#include "../csrc/prefetch.h"
#include "../plan/steps.h"

namespace braidlm::BRAIDLM_LEVEL {
namespace {

constexpr int64_t kSpan = kSpanPages * kPagePositions;
constexpr float kNone = -__builtin_inff();

// A key's or value's number as it is stored.
template <KvFormat F>
using Number = std::conditional_t<
    F == KvFormat::kFloat, float,
    std::conditional_t<F == KvFormat::kBFloat16, BFloat16, std::conditional_t<F == KvFormat::kHalf, Half, uint8_t>>>;

// A vector of numbers, without int8's scale.
template <KvFormat F>
inline Floats stored(const Number<F>* from) {
  if constexpr (F == KvFormat::kFp8)
    return load_e4m3(from);
  else if constexpr (F == KvFormat::kInt8)
    return widen_signed(from);
  else
    return load(from);
}

// Its first `count` numbers; the others are zero.
template <KvFormat F>
inline Floats stored_part(const Number<F>* from, int count) {
  return stored<F>(Padded(from, count).numbers);
}

// Asks for `count` numbers, which may lie behind the page's end.
template <class T>
inline void ask_ahead(const T* from, int64_t count) {
  prefetch(reinterpret_cast<const char*>(from), count * sizeof(T));
}

// A partial result: the weighted values, their greatest score, and the sum of their weights.
struct Partial {
  float* values;
  float &most, &total;
};

// The positions of a page that a query sees, by their places in the page.
struct Seen {
  int count = 0;
  int16_t places[kPagePositions];

  Seen(const AttentionStep& op, const KvPage& page, int64_t position) {
    const int64_t oldest = op.window ? position - op.window + 1 : 0;
    for (int64_t at = page.start; at <= position && at < page.start + kPagePositions; ++at)
      if (at >= oldest || at < op.sink_tokens) places[count++] = int16_t(at - page.start);
  }
};

// Positions that lie between a key that is read and one that is asked for: keys of one head are apart in memory, where
// the processor's own reading ahead comes too late.
constexpr int64_t kAhead = 8;

// Heads that go through a page together, and vectors of a value that stay in registers meanwhile.
constexpr int kHeads = 4, kValueVectors = kSimdWidth == 16 ? 4 : 2;

template <KvFormat F>
struct Page {
  const AttentionStep& op;
  const KvShape& shape;
  const KvPage& page;
  const Seen& seen;
  int64_t group;

  const Number<F>* keys() const { return static_cast<const Number<F>*>(page.k); }
  const Number<F>* values() const { return static_cast<const Number<F>*>(page.v); }

  // scores[h][n] of H queries, one after the other from `q` on, with the n-th position that is seen. Its value is asked
  // for meanwhile.
  template <int H>
  void score(const float* q, float (*scores)[kPagePositions]) const {
    const int64_t width = shape.k_dim;
    for (int n = 0; n < seen.count; ++n) {
      const int64_t place = seen.places[n] * shape.heads + group;
      const Number<F>* key = keys() + place * width;
      ask_ahead(key + kAhead * shape.heads * width, width);
      ask_ahead(values() + place * shape.v_dim, shape.v_dim);
      Floats total[H] = {};
      int64_t i = 0;
      for (; i + kSimdWidth <= width; i += kSimdWidth) {
        const Floats k = stored<F>(key + i);
        unrolled<H>([&](auto h) { total[h] = fma(load(q + h * width + i), k, total[h]); });
      }
      if (i < width) {
        const int rest = int(width - i);
        const Floats k = stored_part<F>(key + i, rest);
        unrolled<H>([&](auto h) { total[h] = fma(load_part(q + h * width + i, rest), k, total[h]); });
      }
      const float scale = F == KvFormat::kInt8 ? op.scale * page.k_scale[place] : op.scale;
      unrolled<H>([&](auto h) { scores[h][n] = sum(total[h]) * scale; });
    }
  }

  // V vectors of H values from place `i` on, to which the weighted ones of all positions are added.
  template <int H, int V>
  void add(const Partial* out, const float (*weights)[kPagePositions], int64_t i) const {
    Floats y[H][V];
    const int64_t width = shape.v_dim;
    const int last = int(width - i - (V - 1) * kSimdWidth < kSimdWidth ? width - i - (V - 1) * kSimdWidth : kSimdWidth);
    const auto active = [&](int v) { return v + 1 < V ? kSimdWidth : last; };
    unrolled<H>(
        [&](auto h) { unrolled<V>([&](auto v) { y[h][v] = at(out[h].values + i + v * kSimdWidth, active(v)); }); });
    for (int n = 0; n < seen.count; ++n) {
      const int64_t place = seen.places[n] * shape.heads + group;
      const Number<F>* value = values() + place * width + i;
      const float scale = F == KvFormat::kInt8 ? page.v_scale[place] : 1.0f;
      Floats stored_values[V];
      unrolled<V>([&](auto v) {
        const Number<F>* from = value + v * kSimdWidth;
        stored_values[v] = active(v) == kSimdWidth ? stored<F>(from) : stored_part<F>(from, last);
      });
      unrolled<H>([&](auto h) {
        const Floats weight = broadcast(F == KvFormat::kInt8 ? weights[h][n] * scale : weights[h][n]);
        unrolled<V>([&](auto v) { y[h][v] = fma(stored_values[v], weight, y[h][v]); });
      });
    }
    unrolled<H>(
        [&](auto h) { unrolled<V>([&](auto v) { put(out[h].values + i + v * kSimdWidth, active(v), y[h][v]); }); });
  }

  // H heads.
  template <int H>
  void attend(const float* q, Partial* out) const {
    alignas(64) float weights[H][kPagePositions];
    score<H>(q, weights);
    for (int h = 0; h < H; ++h) to_weights(weights[h], out[h]);
    int64_t i = 0;
    for (; i + kValueVectors * kSimdWidth <= shape.v_dim; i += kValueVectors * kSimdWidth)
      add<H, kValueVectors>(out, weights, i);
    for (; i < shape.v_dim; i += kSimdWidth) add<H, 1>(out, weights, i);
  }

  // Scores become weights relative to the greatest score so far, to which the partial result is brought.
  void to_weights(float* scores, Partial& out) const {
    float most = out.most;
    for (int n = 0; n < seen.count; ++n) most = scores[n] > most || scores[n] != scores[n] ? scores[n] : most;
    if (most != out.most) {
      const float shrink = exp(out.most - most);
      for (int64_t i = 0; i < shape.v_dim; ++i) out.values[i] *= shrink;
      out.total *= shrink;
      out.most = most;
    }
    by_vectors({0, seen.count}, [&](int64_t n, int active) {
      // Beyond the last score a weight is zero, so that it does not count.
      put(scores + n, active, exp(at(scores + n, active) - most));
      out.total += sum(at(scores + n, active));
    });
  }
};

template <KvFormat F>
void attend_page(const Page<F>& page, const float* q, Partial* out, int64_t heads) {
  switch (heads) {
    case 1:
      return page.template attend<1>(q, out);
    case 2:
      return page.template attend<2>(q, out);
    case 3:
      return page.template attend<3>(q, out);
    default:
      return page.template attend<kHeads>(q, out);
  }
}

// At most kHeads heads that share a key head, from `q` on.
void attend_page(const AttentionStep& op, const KvShape& shape, const KvPage& page, const Seen& seen, int64_t group,
                 const float* q, Partial* out, int64_t heads) {
  const auto as = [&](auto format) {
    constexpr KvFormat F = decltype(format)::value;
    attend_page(Page<F>{op, shape, page, seen, group}, q, out, heads);
  };
  switch (shape.format) {
    case KvFormat::kFloat:
      return as(std::integral_constant<KvFormat, KvFormat::kFloat>{});
    case KvFormat::kBFloat16:
      return as(std::integral_constant<KvFormat, KvFormat::kBFloat16>{});
    case KvFormat::kHalf:
      return as(std::integral_constant<KvFormat, KvFormat::kHalf>{});
    case KvFormat::kFp8:
      return as(std::integral_constant<KvFormat, KvFormat::kFp8>{});
    case KvFormat::kInt8:
      return as(std::integral_constant<KvFormat, KvFormat::kInt8>{});
  }
}

// One of a row's spans that have pages, in their order: its number among them, and its pages.
struct Span {
  int64_t number, begin, end;
};

// Those that begin at `position` at the latest: pages behind it are left from tokens that were taken back.
template <typename F>
void each_span(const KvRow& kv, int64_t position, F&& f) {
  Span span = {0, 0, 0};
  for (; span.begin < kv.count && kv.pages[span.begin].start <= position; ++span.number, span.begin = span.end) {
    const int64_t stop = (kv.pages[span.begin].start / kSpan + 1) * kSpan;
    for (span.end = span.begin + 1; span.end < kv.count && kv.pages[span.end].start < stop;) ++span.end;
    f(span);
  }
}

const KvRow& row_of(const Pass& pass, const AttentionStep& op, int b) { return pass.kv[op.kv][pass.slots[b]]; }

float* partial_of(const Pass& pass, const AttentionStep& op, const KvShape& shape, int b, int64_t head, int64_t span) {
  return pass.partials + ((b * op.heads + head) * pass.spans + span) * (shape.v_dim + 2);
}

// Some key heads of a span, pages outermost: a page is read once from memory for all heads that share it.
void attend_span(const AttentionStep& op, const Pass& pass, int b, Range groups, const Span& span) {
  const KvShape& shape = pass.kv_shapes[op.kv];
  const KvRow& kv = row_of(pass, op, b);
  const int64_t share = op.heads / shape.heads, position = pass.positions[b];
  for (int64_t head = groups.begin * share; head < groups.end * share; ++head) {
    float* partial = partial_of(pass, op, shape, b, head, span.number);
    std::memset(partial, 0, (shape.v_dim + 2) * sizeof(float));
    partial[shape.v_dim] = kNone;
  }
  const float* queries = pass.row(b) + op.q;
  for (int64_t p = span.begin; p < span.end; ++p) {
    const Seen seen(op, kv.pages[p], position);
    if (!seen.count) continue;
    for (int64_t group = groups.begin; group < groups.end; ++group)
      for (int64_t first = 0; first < share; first += kHeads) {
        const int64_t head = group * share;
        const auto out = [&](int64_t h) {
          float* partial = partial_of(pass, op, shape, b, head + (h < share ? h : share - 1), span.number);
          return Partial{partial, partial[shape.v_dim], partial[shape.v_dim + 1]};
        };
        Partial together[kHeads] = {out(first), out(first + 1), out(first + 2), out(first + 3)};
        const int64_t heads = share - first < kHeads ? share - first : kHeads;
        const float* q = queries + (head + first) * shape.k_dim;
        attend_page(op, shape, kv.pages[p], seen, group, q, together, heads);
      }
  }
}

void combine(const AttentionStep& op, const Pass& pass, int b, int64_t head) {
  const KvShape& shape = pass.kv_shapes[op.kv];
  const KvRow& kv = row_of(pass, op, b);
  const auto partial = [&](const Span& span) { return partial_of(pass, op, shape, b, head, span.number); };
  float most = kNone;
  each_span(kv, pass.positions[b], [&](const Span& span) {
    const float here = partial(span)[shape.v_dim];
    most = here > most || here != here ? here : most;
  });
  float* y = pass.row(b) + op.y + head * shape.v_dim;
  std::memset(y, 0, shape.v_dim * sizeof(float));
  float total = 0;
  each_span(kv, pass.positions[b], [&](const Span& span) {
    const float* values = partial(span);
    if (values[shape.v_dim] == kNone) return;
    const float weight = exp(values[shape.v_dim] - most);
    total += weight * values[shape.v_dim + 1];
    for (int64_t i = 0; i < shape.v_dim; ++i) y[i] += weight * values[i];
  });
  for (int64_t i = 0; i < shape.v_dim; ++i) y[i] /= total;
}

// Work is counted in pages of one key head; a thread takes those heads of a span whose middle lies in its share.
void step(const AttentionStep& op, const Member& me) {
  const Pass& pass = me.pass;
  const int64_t groups = pass.kv_shapes[op.kv].heads;
  int64_t work = 0;
  for (int b = 0; b < pass.rows; ++b) work += groups * row_of(pass, op, b).count;
  const Range mine = me.share_of(work, 1);
  int64_t before = 0;
  for (int b = 0; b < pass.rows; ++b) {
    each_span(row_of(pass, op, b), pass.positions[b], [&](const Span& span) {
      const int64_t pages = span.end - span.begin;
      // The first head whose middle lies at `place` or behind it.
      const auto from = [&](int64_t place) {
        const int64_t head = (2 * (place - before) + pages - 1) / (2 * pages);
        return place <= before ? 0 : head < groups ? head : groups;
      };
      const Range heads = {from(mine.begin), from(mine.end)};
      if (heads.begin < heads.end) attend_span(op, pass, b, heads, span);
      before += groups * pages;
    });
  }
  me.team.sync();
  const Range heads = me.share_of(pass.rows * op.heads, 1);
  for (int64_t i = heads.begin; i < heads.end; ++i) combine(op, pass, int(i / op.heads), i % op.heads);
}

}  // namespace

extern const AttentionStepKernels attention_step;
const AttentionStepKernels attention_step = {step};

}  // namespace braidlm::BRAIDLM_LEVEL
