#include "native.h"

#include "../csrc/exp2.h"

namespace braidlm::BRAIDLM_LEVEL {
namespace {

// Vectors of channels that go through a piece's tokens together: a cache line of the narrowest inputs.
constexpr int kVectors = 2;

template <class T>
struct Row {
  const T *x, *tail;
  int64_t stride, channels, taps;

  // Inputs of token `t`; before the row's start they lie in the tail.
  const T* at(int64_t t) const { return t < 0 ? tail + (t + taps - 1) * channels : x + t * stride; }
};

// How `Vectors` vectors of channels from `c` on are read and written; the last one may be cut short.
struct ChannelVectors {
  int64_t c;
  int last;

  template <int Vectors, class T>
  Floats read(const T* row, int v) const {
    const T* from = row + c + v * kSimdWidth;
    return v + 1 < Vectors || last == kSimdWidth ? load(from) : load_part(from, last);
  }
  template <int Vectors, class T>
  void write(T* row, int v, Floats value) const {
    T* const to = row + c + v * kSimdWidth;
    v + 1 < Vectors || last == kSimdWidth ? store(to, value) : store_part(to, value, last);
  }
};

inline Floats activated(const CausalConv1d& op, Floats total) { return op.silu ? total * sigmoid(total) : total; }

// Tokens [begin, end) of a few channels, whose last inputs stay in registers.
template <int Taps, int Vectors, class T>
void columns(const CausalConv1d& op, const Row<T>& row, int64_t begin, int64_t end, const ChannelVectors& active,
             T* y) {
  Floats weight[Taps][Vectors], bias[Vectors], x[Taps][Vectors];
  unrolled<Vectors>([&](auto v) {
    bias[v] = op.bias ? active.read<Vectors>(op.bias, v) : Floats{};
    unrolled<Taps>([&](auto k) { weight[k][v] = active.read<Vectors>(op.weight + k * op.channels, v); });
    unrolled<Taps - 1>([&](auto k) { x[k + 1][v] = active.read<Vectors>(row.at(begin - (Taps - 1) + k), v); });
  });
  for (int64_t t = begin; t < end; ++t)
    unrolled<Vectors>([&](auto v) {
      unrolled<Taps - 1>([&](auto k) { x[k][v] = x[k + 1][v]; });
      x[Taps - 1][v] = active.read<Vectors>(row.x + t * row.stride, v);
      Floats total = bias[v];
      unrolled<Taps>([&](auto k) { total += weight[k][v] * x[k][v]; });
      active.write<Vectors>(y + t * op.y.token, v, activated(op, total));
    });
}

// The same for any number of taps, which are read anew for each token.
template <class T>
void any_columns(const CausalConv1d& op, const Row<T>& row, int64_t begin, int64_t end, const ChannelVectors& active,
                 T* y) {
  for (int64_t t = begin; t < end; ++t) {
    Floats total = op.bias ? active.read<1>(op.bias, 0) : Floats{};
    for (int64_t k = 0; k < op.taps; ++k)
      total += active.read<1>(op.weight + k * op.channels, 0) * active.read<1>(row.at(t - (op.taps - 1) + k), 0);
    active.write<1>(y + t * op.y.token, 0, activated(op, total));
  }
}

template <int Taps, class T>
void piece(const CausalConv1d& op, int64_t r, int64_t begin, int64_t end) {
  const Row<T> row = {static_cast<const T*>(op.x.data) + r * op.x.row,
                      static_cast<const T*>(op.tail) + r * (op.taps - 1) * op.channels, op.x.token, op.channels,
                      op.taps};
  T* y = static_cast<T*>(op.y.data) + r * op.y.row;
  int64_t c = 0;
  if constexpr (Taps > 0)
    for (; c + kVectors * kSimdWidth <= op.channels; c += kVectors * kSimdWidth)
      columns<Taps, kVectors>(op, row, begin, end, {c, kSimdWidth}, y);
  for (; c < op.channels; c += kSimdWidth) {
    const ChannelVectors active = {c, int(op.channels - c < kSimdWidth ? op.channels - c : kSimdWidth)};
    if constexpr (Taps > 0)
      columns<Taps, 1>(op, row, begin, end, active, y);
    else
      any_columns(op, row, begin, end, active, y);
  }
}

template <class T>
void pieces(const CausalConv1d& op, int64_t begin, int64_t end) {
  const int64_t in_row = (op.length + kConvTokens - 1) / kConvTokens;
  for (int64_t i = begin; i < end; ++i) {
    const int64_t r = i / in_row, first = i % in_row * kConvTokens;
    const int64_t last = first + kConvTokens < op.length ? first + kConvTokens : op.length;
    switch (op.taps) {
      case 3:
        piece<3, T>(op, r, first, last);
        break;
      case 4:
        piece<4, T>(op, r, first, last);
        break;
      default:
        piece<0, T>(op, r, first, last);
    }
  }
}

void forward(const CausalConv1d& op, int64_t begin, int64_t end) {
  if (op.x.dtype == Dtype::kFloat)
    pieces<float>(op, begin, end);
  else
    pieces<BFloat16>(op, begin, end);
}

}  // namespace

extern const CausalConv1dNativeKernels causal_conv1d_native;
const CausalConv1dNativeKernels causal_conv1d_native = {forward};

}  // namespace braidlm::BRAIDLM_LEVEL
