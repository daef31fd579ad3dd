// Copies between sequences in memory and small tiles of floats, which kernels work on: any dtype,
// any stride, and any number of channels end here.
#pragma once

#include "vec.h"

namespace braidlm::BRAIDLM_LEVEL {

// `n` up to the next multiple of `unit`.
inline int64_t padded(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

// A part of one row of a sequence: tokens by channels.
struct Part {
  int64_t row, token, tokens, channel, channels;
};

template <class T>
inline void read_rows(const T* from, int64_t stride, const Part& part, float* tile, int64_t width) {
  for (int64_t t = 0; t < part.tokens; ++t, from += stride, tile += width) {
    int64_t c = 0;
    for (; c + kSimdWidth <= part.channels; c += kSimdWidth) store(tile + c, load(from + c));
    if (c < part.channels) {
      store(tile + c, load_part(from + c, int(part.channels - c)));
      c += kSimdWidth;
    }
    for (; c < width; c += kSimdWidth) store(tile + c, Floats{});
  }
}

// Fills `tile` [tokens, width], zero beyond the channels; width is a multiple of kSimdWidth.
inline void read(const Sequence& from, const Part& part, float* tile, int64_t width) {
  const int64_t first = part.row * from.row + part.token * from.token + part.channel;
  if (from.dtype == Dtype::kFloat)
    read_rows(static_cast<const float*>(from.data) + first, from.token, part, tile, width);
  else
    read_rows(static_cast<const BFloat16*>(from.data) + first, from.token, part, tile, width);
}

template <class T>
inline void write_rows(T* to, int64_t stride, const Part& part, const float* tile, int64_t width) {
  for (int64_t t = 0; t < part.tokens; ++t, to += stride, tile += width) {
    int64_t c = 0;
    for (; c + kSimdWidth <= part.channels; c += kSimdWidth) store(to + c, load(tile + c));
    if (c < part.channels) store_part(to + c, load(tile + c), int(part.channels - c));
  }
}

// The inverse of `read`.
inline void write(const Sequence& to, const Part& part, const float* tile, int64_t width) {
  const int64_t first = part.row * to.row + part.token * to.token + part.channel;
  if (to.dtype == Dtype::kFloat)
    write_rows(static_cast<float*>(to.data) + first, to.token, part, tile, width);
  else
    write_rows(static_cast<BFloat16*>(to.data) + first, to.token, part, tile, width);
}

// Asks for a part before it is read or written: its rows lie too far apart for the processor to foresee.
inline void prefetch(const Sequence& sequence, const Part& part) {
  const int64_t size = sequence.dtype == Dtype::kFloat ? sizeof(float) : sizeof(BFloat16), line = 64;
  const int64_t first = part.row * sequence.row + part.token * sequence.token + part.channel;
  const char* row = static_cast<const char*>(sequence.data) + first * size;
  for (int64_t t = 0; t < part.tokens; ++t, row += sequence.token * size)
    for (int64_t i = 0; i < part.channels * size; i += line) __builtin_prefetch(row + i);
}

}  // namespace braidlm::BRAIDLM_LEVEL
