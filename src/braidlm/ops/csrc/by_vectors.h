// Rows of any length, a vector at a time; the last one may be cut short. Per level.
#pragma once

#include "vec.h"

namespace braidlm::BRAIDLM_LEVEL {

// body(i, active) for each vector of [begin, end).
template <class Body>
inline void by_vectors(int64_t begin, int64_t end, Body body) {
  int64_t i = begin;
  for (; i + kSimdWidth <= end; i += kSimdWidth) body(i, kSimdWidth);
  if (i < end) body(i, int(end - i));
}

template <class T>
inline Floats at(const T* from, int active) {
  return active == kSimdWidth ? load(from) : load_part(from, active);
}

template <class T>
inline void put(T* to, int active, Floats v) {
  active == kSimdWidth ? store(to, v) : store_part(to, v, active);
}

}  // namespace braidlm::BRAIDLM_LEVEL
