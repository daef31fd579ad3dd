#include "cpu.h"

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace braidlm {

std::vector<std::string> cpu_features() {
  std::vector<std::string> found;
#if defined(__x86_64__) && defined(__GNUC__)
  __builtin_cpu_init();
#define BRAIDLM_PROBE(name) \
  if (__builtin_cpu_supports(name)) found.emplace_back(name)
  BRAIDLM_PROBE("avx2");
  BRAIDLM_PROBE("fma");
  BRAIDLM_PROBE("f16c");
  BRAIDLM_PROBE("avx512f");
  BRAIDLM_PROBE("avx512bw");
  BRAIDLM_PROBE("avx512vl");
  BRAIDLM_PROBE("avx512dq");
  BRAIDLM_PROBE("avx512vnni");
  BRAIDLM_PROBE("avx512bf16");
#undef BRAIDLM_PROBE
#elif defined(__aarch64__)
  found.emplace_back("neon");  // part of the architecture
#if defined(__linux__)
  constexpr unsigned long kBFloat16 = 1ul << 14;  // HWCAP2_BF16 of the kernel's interface
  if (getauxval(AT_HWCAP2) & kBFloat16) found.emplace_back("bf16");
#endif
#endif
  return found;
}

}  // namespace braidlm
