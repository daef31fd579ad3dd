// Memory that is asked for before it is read. Per level, as all that is inlined into kernels.
#pragma once

#include <cstdint>

namespace braidlm::BRAIDLM_LEVEL {

// Asks the second-level cache for `bytes` from an address on, which may lie behind an array's end.
inline void prefetch(const void* from, int64_t bytes) {
  constexpr int64_t kLine = 64;
  for (int64_t at = 0; at < bytes; at += kLine) __builtin_prefetch(static_cast<const char*>(from) + at, 0, 2);
}

}  // namespace braidlm::BRAIDLM_LEVEL
