#include "cpu.h"

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
#endif
  return found;
}

}  // namespace braidlm
