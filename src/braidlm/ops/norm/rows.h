// Rows of any width, a vector at a time.
#pragma once

#include "../csrc/vec.h"

namespace braidlm::BRAIDLM_LEVEL {

// Calls body(first lane, lanes) for each vector of [0, width), the last one perhaps cut short.
template <class Body>
inline void by_vectors(int64_t width, Body body) {
  int64_t i = 0;
  for (; i + kLanes <= width; i += kLanes) body(i, kLanes);
  if (i < width) body(i, int(width - i));
}

template <class T>
inline Floats at(const T* row, int64_t i, int lanes) {
  return lanes == kLanes ? load(row + i) : load_part(row + i, lanes);
}

template <class T>
inline void put(T* row, int64_t i, int lanes, Floats v) {
  lanes == kLanes ? store(row + i, v) : store_part(row + i, v, lanes);
}

}  // namespace braidlm::BRAIDLM_LEVEL
