#include "expand.h"

namespace braidlm::BRAIDLM_LEVEL {
namespace {

void expand(const Matrix& weight, int64_t begin, int64_t end, const Table& out) {
  for (int64_t row = begin; row < end; ++row)
    with_row(out, row - begin, [&](auto* y) { expand_row(weight, row, y); });
}

}  // namespace

extern const LinearKernels linear_kernels;
const LinearKernels linear_kernels = {expand};

}  // namespace braidlm::BRAIDLM_LEVEL
