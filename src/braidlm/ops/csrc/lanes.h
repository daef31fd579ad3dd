// Rows of any length, a vector at a time; the last one may be cut short. Per level.
#pragma once

#include "vec.h"

namespace braidlm::BRAIDLM_LEVEL {

// body(i, lanes) for each vector of [begin, end).
template <class Body>
inline void by_vectors(int64_t begin, int64_t end, Body body) {
  int64_t i = begin;
  for (; i + kLanes <= end; i += kLanes) body(i, kLanes);
  if (i < end) body(i, int(end - i));
}

template <class T>
inline Floats at(const T* from, int lanes) {
  return lanes == kLanes ? load(from) : load_part(from, lanes);
}

template <class T>
inline void put(T* to, int lanes, Floats v) {
  lanes == kLanes ? store(to, v) : store_part(to, v, lanes);
}

}  // namespace braidlm::BRAIDLM_LEVEL
