// Float vectors of the width that this translation unit is compiled for.
//
// Kernels are written once over these types and compiled once per instruction-set level, each in
// its own namespace (see kernels.h). GCC's and Clang's vector extensions lower them to SSE, AVX,
// AVX-512 or NEON; only what they cannot express is written with intrinsics.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

#include "types.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace braidlm::BRAIDLM_LEVEL {

#if defined(__AVX512F__)
inline constexpr int kSimdWidth = 16;
#elif defined(__AVX2__)
inline constexpr int kSimdWidth = 8;
#else
inline constexpr int kSimdWidth = 4;
#endif

typedef float Floats __attribute__((vector_size(4 * kSimdWidth)));
typedef int32_t Ints __attribute__((vector_size(4 * kSimdWidth)));
typedef uint32_t Words __attribute__((vector_size(4 * kSimdWidth)));
typedef uint16_t Shorts __attribute__((vector_size(2 * kSimdWidth)));

// body(0) ... body(N - 1) with constant arguments, so that small arrays of vectors indexed by them
// stay in registers: loops are unrolled too late for that.
template <class Body, int... I>
[[gnu::always_inline]] inline void unrolled([[maybe_unused]] Body body, std::integer_sequence<int, I...>) {
  (body(std::integral_constant<int, I>{}), ...);
}
template <int N, class Body>
[[gnu::always_inline]] inline void unrolled(Body body) {
  unrolled(body, std::make_integer_sequence<int, N>{});
}

// Subtracting zero, unlike adding it, changes no number and costs nothing.
inline Floats broadcast(float x) { return x - Floats{}; }

// a b + c with one rounding where the processor can; where a sum must not depend on what the
// compiler makes of the code around it.
inline Floats fma(Floats a, Floats b, Floats c) {
#if defined(__AVX512F__)
  return (Floats)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__FMA__)
  return (Floats)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
  return a * b + c;
#endif
}

inline float fma(float a, float b, float c) {
#if defined(__FMA__)
  return __builtin_fmaf(a, b, c);
#else
  return a * b + c;
#endif
}

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
  // GCC takes the conversion of a whole vector in two halves, hence the intrinsics.
#if defined(__AVX512F__)
  const __m512i wide = _mm512_maskz_cvtepu16_epi32(0xffff, (__m256i)load_as<Shorts>(from));
  return bits_as<Floats>((Words)wide << 16);
#elif defined(__AVX2__)
  return bits_as<Floats>((Words)_mm256_cvtepu16_epi32((__m128i)load_as<Shorts>(from)) << 16);
#else
  return bits_as<Floats>(__builtin_convertvector(load_as<Shorts>(from), Words) << 16);
#endif
}

inline Floats load(const Half* from) {
#if defined(__AVX512F__)
  return (Floats)_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
#elif defined(__F16C__)
  return (Floats)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
#else
  Floats v;
  for (int i = 0; i < kSimdWidth; ++i) v[i] = to_float(from[i]);
  return v;
#endif
}

// Round to nearest, ties to even; a NaN stays one.
inline BFloat16 to_bfloat16(float x) {
  uint32_t bits = bits_as<uint32_t>(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {uint16_t(bits >> 16 | 0x40)};
  return {uint16_t((bits + 0x7fffu + (bits >> 16 & 1)) >> 16)};
}

// Bytes as words.
inline Words widen(const uint8_t* from) {
#if defined(__AVX512F__)
  return (Words)_mm512_maskz_cvtepu8_epi32(0xffff, _mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
#elif defined(__AVX2__)
  return (Words)_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
#else
  Words v;
  for (int i = 0; i < kSimdWidth; ++i) v[i] = from[i];
  return v;
#endif
}

// Signed bytes: their sign bits are carried up by shifting left and back.
inline Floats widen_signed(const uint8_t* from) {
  return __builtin_convertvector(bits_as<Ints>(widen(from)) << 24 >> 24, Floats);
}

// The numbers whose e4m3 bits these are. In a float's place their exponent is too small by 120; the
// subnormal ones, multiples of 2^-9, would be subnormal floats there, which are slow.
inline Floats widen_e4m3(Words bits) {
  const Words magnitude = bits & 0x7fu;
  const Words normal = (magnitude << 20) + (120u << 23);
  const Floats small = __builtin_convertvector(bits_as<Ints>(magnitude), Floats) * 0x1p-9f;
  return bits_as<Floats>((bits & 0x80u) << 24 | (magnitude < 8u ? bits_as<Words>(small) : normal));
}

inline Floats load_e4m3(const uint8_t* from) { return widen_e4m3(widen(from)); }

inline void store(float* to, Floats v) { std::memcpy(to, &v, sizeof v); }
inline void store(BFloat16* to, Floats v) {
  const Words bits = bits_as<Words>(v);
  const Words rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
  const Words nan = (bits >> 16) | 0x40u;
  const Words chosen = (bits & 0x7fffffffu) > 0x7f800000u ? nan : rounded;
#if defined(__AVX512F__)
  const __m256i narrow = _mm512_maskz_cvtepi32_epi16(0xffff, (__m512i)chosen);
#else
  const auto narrow = __builtin_convertvector(chosen, Shorts);
#endif
  std::memcpy(to, &narrow, sizeof narrow);
}

inline void store_one(float* to, float x) { *to = x; }
inline void store_one(BFloat16* to, float x) { *to = to_bfloat16(x); }

#if defined(__AVX512BW__) && defined(__AVX512VL__)
template <class T>
inline auto masked_load(const T* from, int count) {
  const auto active = __mmask16((1u << count) - 1);
  if constexpr (sizeof(T) == 4)
    return _mm512_maskz_loadu_epi32(active, from);
  else if constexpr (sizeof(T) == 2)
    return _mm256_maskz_loadu_epi16(active, from);
  else
    return _mm_maskz_loadu_epi8(active, from);
}
#endif

// The first `count` numbers, then zeros; the memory behind the numbers is not touched.
template <class T>
struct Padded {
  T numbers[kSimdWidth];

  Padded(const T* from, int count) {
#if defined(__AVX512BW__) && defined(__AVX512VL__)
    // A vector that is read while the copy of its numbers is still being written waits for all of it.
    const auto loaded = masked_load(from, count);
    std::memcpy(numbers, &loaded, sizeof numbers);
#else
    std::memset(numbers, 0, sizeof numbers);
    std::memcpy(numbers, from, count * sizeof(T));
#endif
  }
};

template <class T>
inline Floats load_part(const T* from, int count) {
  return load(Padded(from, count).numbers);
}
inline Floats load_e4m3_part(const uint8_t* from, int count) { return load_e4m3(Padded(from, count).numbers); }

// The first `count` elements; memory behind them is not touched.
template <class T>
inline void store_part(T* to, Floats v, int count) {
  T active[kSimdWidth];
  store(active, v);
  std::memcpy(to, active, count * sizeof(T));
}

// Sum of all elements, always in the same order: halves are added until one is left. Through
// shuffles, because an accumulator that is ever read through memory is kept in memory.
inline float sum(Floats v) {
#if defined(__AVX512F__)
  const auto eight = __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) +
                     __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
  const auto four =
      __builtin_shufflevector(eight, eight, 0, 1, 2, 3) + __builtin_shufflevector(eight, eight, 4, 5, 6, 7);
#elif defined(__AVX2__)
  const auto four = __builtin_shufflevector(v, v, 0, 1, 2, 3) + __builtin_shufflevector(v, v, 4, 5, 6, 7);
#else
  const auto four = v;
#endif
  return (four[0] + four[2]) + (four[1] + four[3]);
}

// The sums of four vectors, each as `sum` has it to the bit.
inline void sum_four(const Floats& a, const Floats& b, const Floats& c, const Floats& d, float* to) {
#if defined(__AVX512F__)
  const auto halves = [](Floats x, Floats y) {
    return __builtin_shufflevector(x, y, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
           __builtin_shufflevector(x, y, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
  };
  const Floats first = halves(a, b), second = halves(c, d);
  const Floats fours =
      __builtin_shufflevector(first, second, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +
      __builtin_shufflevector(first, second, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
  const Floats pairs =
      fours + __builtin_shufflevector(fours, fours, 2, 3, 2, 3, 6, 7, 6, 7, 10, 11, 10, 11, 14, 15, 14, 15);
  const Floats ones = pairs + __builtin_shufflevector(pairs, pairs, 1, 1, 1, 1, 5, 5, 5, 5, 9, 9, 9, 9, 13, 13, 13, 13);
  const auto four = __builtin_shufflevector(ones, ones, 0, 4, 8, 12);
  std::memcpy(to, &four, sizeof four);
#else
  to[0] = sum(a), to[1] = sum(b), to[2] = sum(c), to[3] = sum(d);
#endif
}

inline float max(Floats v) {
  float m = v[0];
  for (int i = 1; i < kSimdWidth; ++i) m = v[i] > m ? v[i] : m;
  return m;
}

inline Floats max(Floats a, Floats b) { return a > b ? a : b; }
inline Floats min(Floats a, Floats b) { return a < b ? a : b; }

// e^x to about one unit of the last place; below -87.3, where results leave the normal floats, zero.
inline Floats exp(Floats x) {
  constexpr float kLow = -87.33654f, kHigh = 88.72283f;
  const Floats bounded = min(max(x, broadcast(kLow)), broadcast(kHigh));
  // Adding 1.5 * 2^23 rounds to a whole number, which then lies in the lowest bits.
  const Floats shifted = bounded * 1.44269504088896341f + 12582912.0f;
  const Floats n = shifted - 12582912.0f;
  const Floats r = (bounded - n * 0.693359375f) - n * -2.12194440054690583e-4f;
  Floats p = broadcast(1.9875691500e-4f);
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
  const Floats infinite = broadcast(__builtin_inff());
  const Floats finite = x > broadcast(kHigh) ? infinite : (x < broadcast(kLow) ? broadcast(0.0f) : result);
  return x != x ? x : finite;
}

// log(1 + e^x) = max(x, 0) + log(1 + u), u = e^-|x|. With s = u / (2 + u) the logarithm is the odd
// series 2 (s + s^3/3 + ...); s is at most 1/3, so seven terms are enough.
inline Floats softplus(Floats x) {
  const Floats u = exp(-max(x, -x)), s = u / (u + 2.0f), s2 = s * s;
  Floats p = broadcast(1.0f / 13);
  p = p * s2 + 1.0f / 11;
  p = p * s2 + 1.0f / 9;
  p = p * s2 + 1.0f / 7;
  p = p * s2 + 1.0f / 5;
  p = p * s2 + 1.0f / 3;
  p = p * s2 + 1.0f;
  return max(x, broadcast(0.0f)) + 2.0f * s * p;
}

inline Floats silu(Floats x) { return x / (exp(-x) + 1.0f); }

// erf to 1.5e-7 (Abramowitz and Stegun 1964, 7.1.26).
inline Floats erf(Floats x) {
  const Floats a = max(x, -x), t = 1.0f / (a * 0.3275911f + 1.0f);
  Floats p = t * 1.061405429f - 1.453152027f;
  p = p * t + 1.421413741f;
  p = p * t - 0.284496736f;
  p = p * t + 0.254829592f;
  const Floats y = 1.0f - p * t * exp(-a * a);
  return x < 0.0f ? -y : y;
}

inline Floats gelu(Floats x) { return 0.5f * x * (erf(x * 0.70710678118654752f) + 1.0f); }

inline float exp(float x) { return exp(broadcast(x))[0]; }
inline float silu(float x) { return silu(broadcast(x))[0]; }
inline float gelu(float x) { return gelu(broadcast(x))[0]; }
inline float softplus(float x) { return softplus(broadcast(x))[0]; }

}  // namespace braidlm::BRAIDLM_LEVEL
