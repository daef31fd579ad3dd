#include "native.h"

#include <cmath>

#include "../csrc/exp2.h"
#include "../csrc/by_vectors.h"

namespace braidlm::BRAIDLM_LEVEL {
namespace {

// Logits of a row that one pass of the sum takes: a maximum is sought in them while they are near.
constexpr int64_t kBlock = 4096;

// log sum exp of scale * row.
template <class T>
float log_sum(const T* row, int64_t width, float scale) {
  // In powers of two, by the largest one so far.
  const float factor = scale * kLog2E;
  float most = -__builtin_inff(), total = 0;
  for (int64_t first = 0; first < width; first += kBlock) {
    const int64_t last = first + kBlock < width ? first + kBlock : width;
    Floats high = broadcast(factor * to_float(row[first]));
    int64_t i = first;
    for (; i + kSimdWidth <= last; i += kSimdWidth) high = max(high, load(row + i) * factor);
    float here = max(high);
    for (; i < last; ++i) here = std::fmax(here, to_float(row[i]) * factor);
    if (here > most) {
      total *= exp2(most - here);
      most = here;
    }
    if (most == -__builtin_inff()) continue;  // of nothing but such, which add nothing
    Floats sums = {};
    i = first;
    for (; i + kSimdWidth <= last; i += kSimdWidth) sums += exp2(load(row + i) * factor - most);
    total += sum(sums);
    for (; i < last; ++i) total += exp2(to_float(row[i]) * factor - most);
  }
  return (most + std::log2(total)) / kLog2E;
}

template <class T>
void of_row(const CrossEntropy& op, T* row, int64_t r) {
  const float sums = log_sum(row, op.width, op.scale), target = op.scale * to_float(row[op.targets[r]]);
  op.sums[r] = sums;
  op.plain[r] = sums - target;
  if (!op.gradient) return;
  const float factor = op.scale * kLog2E, shift = sums * kLog2E, weight = op.scale * (1 + 2 * op.z_loss * sums);
  by_vectors(0, op.width,
             [&](int64_t i, int active) { put(row + i, active, exp2(at(row + i, active) * factor - shift) * weight); });
  store_one(row + op.targets[r], exp2((target - sums) * kLog2E) * weight - op.scale);
}

void cross_entropy(const CrossEntropy& op, int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; ++r) with_row(op.logits, r, [&](auto* row) { of_row(op, row, r); });
}

}  // namespace

extern const CrossEntropyNativeKernels cross_entropy_native;
const CrossEntropyNativeKernels cross_entropy_native = {cross_entropy};

}  // namespace braidlm::BRAIDLM_LEVEL
