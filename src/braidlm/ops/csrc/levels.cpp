// Which level of the kernels runs, and where its tables are.
#include <algorithm>
#include <atomic>
#include <stdexcept>

#include "cpu.h"
#include "kernels.h"

namespace braidlm {

#define BRAIDLM_KERNELS(name, Kernels) extern const Kernels name;
namespace portable {
#include "kernel_list.h"
}
#if defined(BRAIDLM_AVX2)
namespace avx2 {
#include "kernel_list.h"
}
#endif
#if defined(BRAIDLM_AVX512)
namespace avx512 {
#include "kernel_list.h"
}
namespace avx512_bf16 {
#include "kernel_list.h"
}
namespace avx512_amx {
#include "kernel_list.h"
}
#define BRAIDLM_TABLES(name) &portable::name, &avx2::name, &avx512::name, &avx512_bf16::name, &avx512_amx::name
#elif defined(BRAIDLM_AVX2)
#define BRAIDLM_TABLES(name) &portable::name, &avx2::name
#else
#define BRAIDLM_TABLES(name) &portable::name
#endif
#undef BRAIDLM_KERNELS

#define BRAIDLM_KERNELS(name, Kernels)                             \
  template <>                                                      \
  const Kernels& kernels<Kernels>(int level) {                     \
    static const Kernels* const tables[] = {BRAIDLM_TABLES(name)}; \
    return *tables[level];                                         \
  }
#include "kernel_list.h"
#undef BRAIDLM_KERNELS

namespace {

// In the order of the tables.
struct Level {
  const char* name;
  std::vector<const char*> needs;
};

const std::vector<Level> kLevels = {
    {"portable", {}},
#if defined(BRAIDLM_AVX2)
    {"avx2", {"avx2", "fma", "f16c"}},
#endif
#if defined(BRAIDLM_AVX512)
    {"avx512", {"avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512dq"}},
    {"avx512_bf16", {"avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512vnni", "avx512bf16"}},
    {"avx512_amx",
     {"avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512vnni", "avx512bf16", "amxbf16"}},
#endif
};

// Numbers of the levels that this processor can run.
const std::vector<int>& usable() {
  static const std::vector<int> found = [] {
    const std::vector<std::string> features = cpu_features();
    std::vector<int> here;
    for (int i = 0; i < int(kLevels.size()); ++i) {
      const std::vector<const char*>& needs = kLevels[i].needs;
      const bool complete = std::all_of(needs.begin(), needs.end(), [&](const char* need) {
        return std::find(features.begin(), features.end(), need) != features.end();
      });
      if (complete) here.push_back(i);
    }
    return here;
  }();
  return found;
}

std::atomic<int> chosen{-1};

}  // namespace

int current_level() {
  const int level = chosen.load(std::memory_order_relaxed);
  return level >= 0 ? level : usable().back();
}

std::string level() { return kLevels[current_level()].name; }

std::vector<std::string> levels() {
  std::vector<std::string> names;
  for (int level : usable()) names.emplace_back(kLevels[level].name);
  return names;
}

void set_level(const std::string& name) {
  for (int level : usable())
    if (name == kLevels[level].name) return chosen.store(level);
  throw std::invalid_argument("this processor has no kernels of level '" + name + "'");
}

}  // namespace braidlm
