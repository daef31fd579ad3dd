// Which level of the kernels runs.
#include <algorithm>
#include <atomic>
#include <stdexcept>

#include "cpu.h"
#include "kernels.h"

namespace braidlm {
namespace portable {
extern const Kernels kernels;
}
#if defined(BRAIDLM_X86)
namespace avx2 {
extern const Kernels kernels;
}
namespace avx512 {
extern const Kernels kernels;
}
namespace avx512_bf16 {
extern const Kernels kernels;
}
namespace avx512_amx {
extern const Kernels kernels;
}
#endif

namespace {

struct Level {
  const char* name;
  const Kernels* kernels;
  std::vector<const char*> needs;
};

const std::vector<Level>& usable() {
  static const std::vector<Level> found = [] {
    const std::vector<Level> all = {
        {"portable", &portable::kernels, {}},
#if defined(BRAIDLM_X86)
        {"avx2", &avx2::kernels, {"avx2", "fma", "f16c"}},
        {"avx512", &avx512::kernels, {"avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512dq"}},
        {"avx512_bf16",
         &avx512_bf16::kernels,
         {"avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512vnni", "avx512bf16"}},
        {"avx512_amx",
         &avx512_amx::kernels,
         {"avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512vnni", "avx512bf16", "amxbf16"}},
#endif
    };
    const std::vector<std::string> features = cpu_features();
    std::vector<Level> here;
    for (const Level& level : all) {
      const bool complete = std::all_of(level.needs.begin(), level.needs.end(), [&](const char* need) {
        return std::find(features.begin(), features.end(), need) != features.end();
      });
      if (complete) here.push_back(level);
    }
    return here;
  }();
  return found;
}

std::atomic<const Level*> chosen{nullptr};

const Level& current() {
  const Level* level = chosen.load();
  return level != nullptr ? *level : usable().back();
}

}  // namespace

const Kernels& kernels() { return *current().kernels; }

std::string level() { return current().name; }

std::vector<std::string> levels() {
  std::vector<std::string> names;
  for (const Level& level : usable()) names.emplace_back(level.name);
  return names;
}

void set_level(const std::string& name) {
  for (const Level& level : usable())
    if (level.name == name) return chosen.store(&level);
  throw std::invalid_argument("this processor has no kernels of level '" + name + "'");
}

}  // namespace braidlm
