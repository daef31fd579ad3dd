// Complex numbers of a block of channels as planes of their parts, which both directions work on.
#pragma once

#include "../csrc/vec.h"
#include "native.h"

namespace braidlm::BRAIDLM_LEVEL {

inline constexpr int64_t kTokens = 64, kBlock = kModalChannels;

// Real and imaginary parts of one number a mode and channel, each [modes, kBlock].
struct Planes {
  float *re, *im;
};

// A block of channels of one row.
struct Channels {
  int64_t row, first, count;
};

inline Channels channels_at(const GatedConv& op, int64_t block) {
  const int64_t in_row = (op.channels + kBlock - 1) / kBlock, first = block % in_row * kBlock;
  return {block / in_row, first, op.channels - first < kBlock ? op.channels - first : kBlock};
}

// Planes of [filters, modes, 2] numbers; channels that do not exist get harmless copies.
inline void read_filters(const GatedConv& op, const Channels& of, const float* numbers, const Planes& planes) {
  const int64_t share = op.channels / op.filters;
  for (int64_t m = 0; m < op.modes; ++m)
    for (int64_t e = 0; e < kBlock; ++e) {
      const int64_t inside = e < of.count ? e : of.count - 1;
      const float* const number = numbers + 2 * ((of.first + inside) / share * op.modes + m);
      planes.re[m * kBlock + e] = number[0], planes.im[m * kBlock + e] = number[1];
    }
}

// Likewise, of [rows, channels, modes, 2] numbers.
inline void read_states(const GatedConv& op, const Channels& of, const float* numbers, const Planes& planes) {
  for (int64_t m = 0; m < op.modes; ++m)
    for (int64_t e = 0; e < kBlock; ++e) {
      const int64_t inside = e < of.count ? e : of.count - 1;
      const float* const number = numbers + 2 * ((of.row * op.channels + of.first + inside) * op.modes + m);
      planes.re[m * kBlock + e] = number[0], planes.im[m * kBlock + e] = number[1];
    }
}

// The inverse of `read_states`.
inline void write_states(const GatedConv& op, const Channels& of, const Planes& planes, float* numbers) {
  for (int64_t e = 0; e < of.count; ++e)
    for (int64_t m = 0; m < op.modes; ++m) {
      float* const number = numbers + 2 * ((of.row * op.channels + of.first + e) * op.modes + m);
      number[0] = planes.re[m * kBlock + e], number[1] = planes.im[m * kBlock + e];
    }
}

}  // namespace braidlm::BRAIDLM_LEVEL
