// 2^x, the exponential that the sequence kernels spend their time in: cheaper than `exp`, because
// bases other than two are folded into what is multiplied anyway.
#pragma once

#include "vec.h"

namespace braidlm::BRAIDLM_LEVEL {

inline constexpr float kLog2E = 1.44269504088896341f;

// Relative error below 2e-7. Zero from about -127 (AVX-512: -150) down, infinite from 128 up; a NaN stays one.
inline Floats exp2(Floats x) {
  // 2^r for |r| <= 1/2: a minimax polynomial of relative error 9e-8 that is exactly one at zero.
  const auto power = [](Floats r) {
    Floats p = broadcast(0x1.5bba12p-10f);
    p = p * r + 0x1.3cea88p-7f;
    p = p * r + 0x1.c6b752p-5f;
    p = p * r + 0x1.ebf9bcp-3f;
    p = p * r + 0x1.62e42ap-1f;
    return p * r + 1.0f;
  };
#if defined(__AVX512F__)
  // Masked in form only: GCC 12 warns of its own headers' plain forms (GCC bug 105593).
  constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  constexpr __mmask16 kAll = 0xffff;
  const Floats r = (Floats)_mm512_maskz_reduce_ps(kAll, (__m512)x, kNearest);  // zero for infinities
  const __m512 n = _mm512_maskz_roundscale_ps(kAll, (__m512)x, kNearest);
  return (Floats)_mm512_maskz_scalef_ps(kAll, (__m512)power(r), n);
#else
  // At -127 the biased exponent is zero and so is the factor; at 128 it is that of infinity.
  const Floats low = x < broadcast(-127.0f) ? broadcast(-127.0f) : x;
  const Floats bounded = low > broadcast(128.0f) ? broadcast(128.0f) : low;
  // Adding 1.5 * 2^23 rounds to a whole number.
  const Floats n = (bounded + 12582912.0f) - 12582912.0f;
  const Ints exponent = (__builtin_convertvector(n, Ints) + 127) << 23;
  return power(bounded - n) * bits_as<Floats>(exponent);
#endif
}

inline float exp2(float x) { return exp2(broadcast(x))[0]; }

inline Floats sigmoid(Floats x) { return 1.0f / (exp2(x * -kLog2E) + 1.0f); }

}  // namespace braidlm::BRAIDLM_LEVEL
