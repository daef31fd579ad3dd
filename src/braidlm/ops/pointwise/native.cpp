#include "native.h"

#include "../csrc/vec.h"

namespace braidlm::BRAIDLM_LEVEL {
namespace {

// out[i] = f(a[i], b[i]) for a row.
template <class A, class B, class Out, class F>
void map(const A* a, const B* b, Out* out, int64_t width, F f) {
  int64_t i = 0;
  for (; i + kLanes <= width; i += kLanes) store(out + i, f(load(a + i), load(b + i)));
  const int rest = int(width - i);
  if (rest) store_part(out + i, f(load_part(a + i, rest), load_part(b + i, rest)), rest);
}

template <class F>
void map_rows(const Table& a, const Table& b, const Table& out, int64_t width, int64_t begin, int64_t end, F f) {
  for (int64_t r = begin; r < end; ++r)
    with_row(a, r, [&](const auto* x) {
      with_row(b, r, [&](const auto* y) { with_row(out, r, [&](auto* z) { map(x, y, z, width, f); }); });
    });
}

void glu(const Glu& op, int64_t begin, int64_t end) {
  if (op.gelu)
    map_rows(op.gate, op.up, op.out, op.width, begin, end, [](Floats g, Floats u) { return gelu(g) * u; });
  else
    map_rows(op.gate, op.up, op.out, op.width, begin, end, [](Floats g, Floats u) { return silu(g) * u; });
}

void add_scaled(const AddScaled& op, int64_t begin, int64_t end) {
  const Floats scale = splat(op.scale);
  map_rows(op.x, op.y, op.out, op.width, begin, end, [scale](Floats x, Floats y) { return fma(scale, y, x); });
}

}  // namespace

extern const PointwiseKernels pointwise_kernels;
const PointwiseKernels pointwise_kernels = {glu, add_scaled};

}  // namespace braidlm::BRAIDLM_LEVEL
