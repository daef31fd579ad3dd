// Float vectors of the width that this translation unit is compiled for.
//
// Kernels are written once over these types and compiled once per instruction-set level, each in
// its own namespace (see kernels.h). GCC's and Clang's vector extensions lower them to SSE, AVX,
// AVX-512 or NEON; only what they cannot express is written with intrinsics.
#pragma once

#include <cstdint>
#include <cstring>

#include "types.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace braidlm::BRAIDLM_LEVEL {

#if defined(__AVX512F__)
inline constexpr int kLanes = 16;
#elif defined(__AVX2__)
inline constexpr int kLanes = 8;
#else
inline constexpr int kLanes = 4;
#endif

typedef float Floats __attribute__((vector_size(4 * kLanes)));
typedef int32_t Ints __attribute__((vector_size(4 * kLanes)));
typedef uint32_t Words __attribute__((vector_size(4 * kLanes)));
typedef uint16_t Shorts __attribute__((vector_size(2 * kLanes)));

inline Floats splat(float x) { return Floats{} + x; }

template <class V, class T>
inline V load_as(const T* from) {
  V v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

template <class To, class From>
inline To bits_as(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

inline float to_float(float x) { return x; }
inline float to_float(BFloat16 x) { return bits_as<float>(uint32_t{x.bits} << 16); }
inline float to_float(Half x) {
#if defined(__F16C__)
  return _cvtsh_ss(x.bits);
#else
  // Shifted into a float's place, the exponent is too small by 112; a multiplication mends that,
  // for subnormal numbers too. Infinities and NaNs keep the largest exponent.
  const uint32_t sign = uint32_t(x.bits & 0x8000u) << 16, rest = uint32_t(x.bits & 0x7fffu) << 13;
  const float value = rest >= 0x0f800000u ? bits_as<float>(rest | 0x7f800000u) : bits_as<float>(rest) * 0x1p112f;
  return bits_as<float>(sign | bits_as<uint32_t>(value));
#endif
}

inline Floats load(const float* from) { return load_as<Floats>(from); }
inline Floats load(const BFloat16* from) {
  return bits_as<Floats>(__builtin_convertvector(load_as<Shorts>(from), Words) << 16);
}

// Round to nearest, ties to even; a NaN stays one.
inline BFloat16 to_bfloat16(float x) {
  uint32_t bits = bits_as<uint32_t>(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {uint16_t(bits >> 16 | 0x40)};
  return {uint16_t((bits + 0x7fffu + (bits >> 16 & 1)) >> 16)};
}

inline void store(float* to, Floats v) { std::memcpy(to, &v, sizeof v); }
inline void store(BFloat16* to, Floats v) {
  const Words bits = bits_as<Words>(v);
  const Words rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
  const Words nan = (bits >> 16) | 0x40u;
  const Words chosen = (bits & 0x7fffffffu) > 0x7f800000u ? nan : rounded;
  const Shorts narrow = __builtin_convertvector(chosen, Shorts);
  std::memcpy(to, &narrow, sizeof narrow);
}

inline void store_one(float* to, float x) { *to = x; }
inline void store_one(BFloat16* to, float x) { *to = to_bfloat16(x); }

// The first `count` lanes; the others are zero, and their memory is not touched.
template <class T>
inline Floats load_part(const T* from, int count) {
  T lanes[kLanes] = {};
  std::memcpy(lanes, from, count * sizeof(T));
  return load(lanes);
}

template <class T>
inline void store_part(T* to, Floats v, int count) {
  T lanes[kLanes];
  store(lanes, v);
  std::memcpy(to, lanes, count * sizeof(T));
}

// Sum of all lanes, always in the same order: halves are added until one lane is left.
inline float sum(Floats v) {
  float lanes[kLanes];
  std::memcpy(lanes, &v, sizeof v);
#if defined(__AVX512F__)
  typedef float Eight __attribute__((vector_size(32)));
  const Eight eight = load_as<Eight>(lanes) + load_as<Eight>(lanes + 8);
  std::memcpy(lanes, &eight, sizeof eight);
#endif
#if defined(__AVX2__)
  typedef float Four __attribute__((vector_size(16)));
  const Four four = load_as<Four>(lanes) + load_as<Four>(lanes + 4);
  std::memcpy(lanes, &four, sizeof four);
#endif
  return (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]);
}

inline float max(Floats v) {
  float m = v[0];
  for (int i = 1; i < kLanes; ++i) m = v[i] > m ? v[i] : m;
  return m;
}

inline Floats max(Floats a, Floats b) { return a > b ? a : b; }
inline Floats min(Floats a, Floats b) { return a < b ? a : b; }

// e^x to about one unit of the last place; below -87.3, where results leave the normal floats, zero.
inline Floats exp(Floats x) {
  constexpr float kLow = -87.33654f, kHigh = 88.72283f;
  const Floats bounded = min(max(x, splat(kLow)), splat(kHigh));
  // Adding 1.5 * 2^23 rounds to a whole number, which then lies in the lowest bits.
  const Floats shifted = bounded * 1.44269504088896341f + 12582912.0f;
  const Floats n = shifted - 12582912.0f;
  const Floats r = (bounded - n * 0.693359375f) - n * -2.12194440054690583e-4f;
  Floats p = splat(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  const Floats mantissa = p * (r * r) + r + 1.0f;
  // 2^n in two factors, so that n = 128 does not overflow on the way.
  const Ints whole = __builtin_convertvector(n, Ints), half = whole >> 1;
  const Floats low = bits_as<Floats>((half + 127) << 23), high = bits_as<Floats>((whole - half + 127) << 23);
  const Floats result = mantissa * low * high;
  const Floats infinite = splat(__builtin_inff());
  const Floats finite = x > splat(kHigh) ? infinite : (x < splat(kLow) ? splat(0.0f) : result);
  return x != x ? x : finite;
}

inline Floats silu(Floats x) { return x / (exp(-x) + 1.0f); }

inline float exp(float x) { return exp(splat(x))[0]; }
inline float silu(float x) { return silu(splat(x))[0]; }

}  // namespace braidlm::BRAIDLM_LEVEL
