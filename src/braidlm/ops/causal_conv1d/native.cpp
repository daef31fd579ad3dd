#include "native.h"

#include "../csrc/exp2.h"

namespace braidlm::BRAIDLM_LEVEL {
namespace {

// Channels that stay in the first-level cache, weights and all, while a piece's tokens go by.
constexpr int64_t kChannels = 256;

template <class T>
struct Row {
  const T *x, *tail;
  int64_t stride, channels, taps;

  // Inputs of token `t`; before the row's start they lie in the tail.
  const T* at(int64_t t) const { return t < 0 ? tail + (t + taps - 1) * channels : x + t * stride; }
};

// One token: `Taps` is the number of taps, or 0 for any number.
template <int Taps, class T>
inline void convolve(const CausalConv1d& op, const Row<T>& row, int64_t t, int64_t begin, int64_t end, T* y) {
  const int64_t taps = Taps ? Taps : op.taps;
  for (int64_t c = begin; c < end; c += kLanes) {
    const int lanes = int(end - c < kLanes ? end - c : kLanes);
    const auto part = [&](const auto* from) { return lanes == kLanes ? load(from + c) : load_part(from + c, lanes); };
    Floats total = op.bias ? part(op.bias) : Floats{};
    for (int64_t k = 0; k < taps; ++k) total += part(op.weight + k * op.channels) * part(row.at(t - (taps - 1) + k));
    if (op.silu) total = total / (exp2(total * -kLog2E) + 1.0f);
    lanes == kLanes ? store(y + c, total) : store_part(y + c, total, lanes);
  }
}

template <int Taps, class T>
void piece(const CausalConv1d& op, int64_t r, int64_t begin, int64_t end) {
  const Row<T> row = {static_cast<const T*>(op.x.data) + r * op.x.row,
                      static_cast<const T*>(op.tail) + r * (op.taps - 1) * op.channels, op.x.token, op.channels,
                      op.taps};
  T* y = static_cast<T*>(op.y.data) + r * op.y.row;
  for (int64_t c = 0; c < op.channels; c += kChannels) {
    const int64_t last = c + kChannels < op.channels ? c + kChannels : op.channels;
    for (int64_t t = begin; t < end; ++t) convolve<Taps>(op, row, t, c, last, y + t * op.y.token);
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

extern const CausalConv1dKernels causal_conv1d_kernels;
const CausalConv1dKernels causal_conv1d_kernels = {forward};

}  // namespace braidlm::BRAIDLM_LEVEL
