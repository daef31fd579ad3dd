#include "native.h"

#include "../csrc/exp2.h"
#include "../csrc/by_vectors.h"

namespace braidlm::BRAIDLM_LEVEL {
namespace {

// out[i] = f(a[i], b[i]) for a row.
template <class A, class B, class Out, class F>
void map(const A* a, const B* b, Out* out, int64_t width, F f) {
  int64_t i = 0;
  for (; i + kSimdWidth <= width; i += kSimdWidth) store(out + i, f(load(a + i), load(b + i)));
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

// An activation and its slope.
struct Activated {
  Floats value, slope;
};

Activated silu_slope(Floats x) {
  const Floats s = sigmoid(x);
  return {x * s, s * (x * (1.0f - s) + 1.0f)};
}

Activated gelu_slope(Floats x) {
  const Floats below = 0.5f * (erf(x * 0.70710678118654752f) + 1.0f);
  const Floats density = exp2(x * x * (-0.5f * kLog2E)) * 0.39894228040143268f;
  return {x * below, below + x * density};
}

template <class T, class F>
void glu_row(const T* gate, const T* up, const T* dout, T* dgate, T* dup, int64_t width, F activate) {
  by_vectors(0, width, [&](int64_t i, int active) {
    const Activated a = activate(at(gate + i, active));
    const Floats d = at(dout + i, active);
    put(dgate + i, active, d * at(up + i, active) * a.slope);
    put(dup + i, active, d * a.value);
  });
}

template <class T>
T* row_of(const Table& table, int64_t row) {
  return static_cast<T*>(table.data) + row * table.stride;
}

template <class T, class F>
void glu_rows(const Glu& op, const GluGradients& grad, int64_t begin, int64_t end, F activate) {
  for (int64_t r = begin; r < end; ++r)
    glu_row<T>(row_of<T>(op.gate, r), row_of<T>(op.up, r), row_of<T>(grad.dout, r), row_of<T>(grad.dgate, r),
               row_of<T>(grad.dup, r), op.width, activate);
}

void glu_backward(const Glu& op, const GluGradients& grad, int64_t begin, int64_t end) {
  const auto rows = [&](auto activate) {
    if (op.gate.dtype == Dtype::kFloat)
      glu_rows<float>(op, grad, begin, end, activate);
    else
      glu_rows<BFloat16>(op, grad, begin, end, activate);
  };
  op.gelu ? rows(gelu_slope) : rows(silu_slope);
}

void add_scaled(const AddScaled& op, int64_t begin, int64_t end) {
  const Floats scale = broadcast(op.scale);
  map_rows(op.x, op.y, op.out, op.width, begin, end, [scale](Floats x, Floats y) { return fma(scale, y, x); });
}

}  // namespace

extern const PointwiseNativeKernels pointwise_native;
const PointwiseNativeKernels pointwise_native = {glu, glu_backward, add_scaled};

}  // namespace braidlm::BRAIDLM_LEVEL
