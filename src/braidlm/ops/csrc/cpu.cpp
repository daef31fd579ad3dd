#include "cpu.h"

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace braidlm {
namespace {

// Whether there is a matrix unit for bfloat16 that this process may use: its registers are large, and the system gives
// them to those who ask.
[[maybe_unused]] bool matrix_unit() {
#if defined(__x86_64__) && defined(__linux__)
  constexpr unsigned kLeaf = 7, kAmxBFloat16 = 1u << 22, kAmxTile = 1u << 24;
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid_count(kLeaf, 0, &a, &b, &c, &d) || !(d & kAmxBFloat16) || !(d & kAmxTile)) return false;
  constexpr long kAskPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, and its number among the states
  return syscall(SYS_arch_prctl, kAskPermission, kTileData) == 0;
#else
  return false;
#endif
}

}  // namespace

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
  if (matrix_unit()) found.emplace_back("amxbf16");
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
