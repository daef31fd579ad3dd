#include "operand.h"

#include <cmath>

namespace braidlm::BRAIDLM_LEVEL {
namespace {

float mean_square(const float* x, int64_t width) {
  Floats squares = {};
  int64_t i = 0;
  for (; i + kSimdWidth <= width; i += kSimdWidth) squares += load(x + i) * load(x + i);
  if (i < width) {
    const Floats v = load_part(x + i, int(width - i));
    squares += v * v;
  }
  return sum(squares) / float(width);
}

float norm_scale(const Input& input, const float* x, int64_t width) {
  const float mean = mean_square(x, width);
  return input.eps_outside_root ? 1 / (std::sqrt(mean) + input.eps) : 1 / std::sqrt(mean + input.eps);
}

void gated(const Input& input, const float* x, const float* gate, float* y) {
  for (int64_t i = 0; i < input.width; i += kSimdWidth) {
    const int active = int(input.width - i < kSimdWidth ? input.width - i : kSimdWidth);
    store_part(y + i, load_part(x + i, active) * silu(load_part(gate + i, active)), active);
  }
  const int64_t part = input.width / input.groups;
  for (int64_t first = 0; first < input.width; first += part) {
    const float scale = norm_scale(input, y + first, part);
    for (int64_t i = first; i < first + part; ++i) y[i] = y[i] * scale * input.weight[i];
  }
}

// Places in the scratch of one thread, one after the other.
struct Arena {
  char* at;
  template <class T>
  T* take(int64_t count) {
    T* found = reinterpret_cast<T*>(at);
    at += (count * int64_t(sizeof(T)) + 63) / 64 * 64;
    return found;
  }
};

// Whole numbers from -32512 to 32512, so that the high byte of 256 high + low stays below 128.
constexpr float kMost = 32512.0f;

// Whole numbers as 256 high + low. int4 weights come four groups at a time, the first halves of all
// four before the second halves; so do the bytes for them.
void byte_pairs(const int16_t* shorts, int64_t padded, bool four, int8_t* high, int8_t* low) {
  typedef int16_t Numbers __attribute__((vector_size(32)));
  typedef int8_t Bytes __attribute__((vector_size(16)));
  // Whole blocks of 128: what a row has beyond them is never read, and int4's order would leave the row.
  for (int64_t i = 0; i < padded / 128 * 128; i += 16) {
    const int64_t block = i / 128 * 128, group = i / 32 % 4, half = i / 16 % 2;
    const int64_t to = four ? block + half * 64 + group * 16 : i;
    const Numbers whole = load_as<Numbers>(shorts + i), rounded = (whole + int16_t(128)) >> 8;
    const Bytes upper = __builtin_convertvector(rounded, Bytes);
    const Bytes lower = __builtin_convertvector(whole - (rounded << 8), Bytes);
    std::memcpy(high + to, &upper, sizeof upper);
    std::memcpy(low + to, &lower, sizeof lower);
  }
}

void integers(Operand& operand, int b) {
  const int64_t padded = operand.stride;
  const float* x = operand.floats + b * padded;
  int16_t* shorts = operand.shorts + b * padded;
  int8_t *high = operand.high + b * padded, *low = operand.low + b * padded;
  float *scale = operand.scales + b, *sums = operand.sums + b * padded / kGroup;
  Floats most = {}, spoiled = {};
  for (int64_t i = 0; i < padded; i += kSimdWidth) {
    const Floats v = load(x + i);
    most = max(most, max(v, -v));
    spoiled += v - v;  // NaN where v is infinite or NaN
  }
  const float largest = max(most);
  *scale = largest / kMost + sum(spoiled);
  const float inverse = largest > 0 ? kMost / largest : 0;
  for (int64_t i = 0; i < padded; i += kSimdWidth) {
    // Adding and taking away 1.5 * 2^23 rounds to a whole number.
    const Floats whole = (load(x + i) * inverse + 12582912.0f) - 12582912.0f;
    const Shorts narrow = __builtin_convertvector(__builtin_convertvector(whole, Ints), Shorts);
    std::memcpy(shorts + i, &narrow, sizeof narrow);
  }
  for (int64_t g = 0; g < padded / kGroup; ++g) {
    int32_t total = 0;
    for (int64_t i = g * kGroup; i < (g + 1) * kGroup; ++i) total += shorts[i];
    sums[g] = *scale * float(total);
  }
  if (kBytePairs) byte_pairs(shorts, padded, operand.format == WeightFormat::kInt4, high, low);
}

// Pairs of numbers as the matrix unit takes them.
void pair_up(Operand& operand) {
  const int64_t count = operand.width / 2;
  for (int first = 0; first < operand.rows; first += kMostRows) {
    const int rows = operand.rows - first < kMostRows ? operand.rows - first : kMostRows;
    BFloat16* panel = operand.pairs + first * operand.width;
    for (int r = 0; r < rows; ++r) {
      const BFloat16* row = operand.bfloats + (first + r) * operand.stride;
      for (int64_t k = 0; k < count; ++k) std::memcpy(panel + 2 * (k * rows + r), row + 2 * k, 2 * sizeof *row);
    }
  }
}

}  // namespace

void evaluate(const Input& input, const float* row, float* y) {
  const float *x = row + input.x, *other = row + input.other;
  const int64_t width = input.width;
  switch (input.kind) {
    case Input::Kind::kPlain:
      std::memcpy(y, x, width * sizeof(float));
      break;
    case Input::Kind::kRms: {
      const float scale = norm_scale(input, x, width);
      for (int64_t i = 0; i < width; ++i) y[i] = x[i] * scale * input.weight[i];
      break;
    }
    case Input::Kind::kGated:
      gated(input, x, other, y);
      break;
    case Input::Kind::kMean: {
      const float a = norm_scale(input, x, width), b = norm_scale(input, other, width);
      for (int64_t i = 0; i < width; ++i)
        y[i] = (x[i] * a * input.weight[i] + other[i] * b * input.other_weight[i]) / 2;
      break;
    }
    case Input::Kind::kSum: {
      const float b = norm_scale(input, other, width);
      for (int64_t i = 0; i < width; ++i) y[i] = x[i] + other[i] * b * input.other_weight[i];
      break;
    }
  }
}

Operand begin_operand(int rows, int64_t width, WeightFormat format, char* scratch) {
  Operand operand = {};
  operand.format = format;
  operand.rows = rows;
  operand.width = width;
  const int64_t wide = operand.stride = row_stride(width, rows), all = rows * wide;
  Arena arena{scratch};
  operand.floats = arena.take<float>(all);
  for (int b = 0; b < rows; ++b) std::memset(operand.floats + b * wide + width, 0, (wide - width) * sizeof(float));
  if (format == WeightFormat::kBFloat16) operand.bfloats = arena.take<BFloat16>(all);
  if (by_unit(format, width)) operand.pairs = arena.take<BFloat16>(rows * width);
  if (format == WeightFormat::kInt8 || format == WeightFormat::kInt4) {
    operand.shorts = arena.take<int16_t>(all);
    operand.high = arena.take<int8_t>(all);
    operand.low = arena.take<int8_t>(all);
    operand.scales = arena.take<float>(rows);
    operand.sums = arena.take<float>(all / kGroup);
  }
  return operand;
}

void finish_operand(Operand& operand, int rows) {
  const int64_t wide = operand.stride;
  if (operand.bfloats)
    for (int64_t i = 0; i < rows * wide; i += kSimdWidth) {
      store(operand.bfloats + i, load(operand.floats + i));
      store(operand.floats + i, load(operand.bfloats + i));
    }
  if (operand.pairs) pair_up(operand);
  if (operand.shorts)
    for (int b = 0; b < rows; ++b) integers(operand, b);
}

Operand prepare_operand(const Pass& pass, const Input& input, WeightFormat format, char* scratch) {
  Operand operand = begin_operand(pass.rows, input.width, format, scratch);
  for (int b = 0; b < pass.rows; ++b) evaluate(input, pass.row(b), operand.floats + b * operand.stride);
  finish_operand(operand, pass.rows);
  return operand;
}

Operand gather_rows(const Operand& from, const int* rows, int count, char* scratch) {
  Operand to = begin_operand(count, from.width, from.format, scratch);
  const auto copy = [&](auto* target, const auto* source, int64_t unit) {
    const int64_t to_stride = unit ? to.stride / unit : 1, from_stride = unit ? from.stride / unit : 1;
    const int64_t width = to_stride < from_stride ? to_stride : from_stride;
    if (target)
      for (int j = 0; j < count; ++j)
        std::memcpy(target + j * to_stride, source + rows[j] * from_stride, width * sizeof *target);
  };
  copy(to.floats, from.floats, 1);
  copy(to.bfloats, from.bfloats, 1);
  copy(to.shorts, from.shorts, 1);
  copy(to.high, from.high, 1);
  copy(to.low, from.low, 1);
  copy(to.scales, from.scales, 0);
  copy(to.sums, from.sums, kGroup);
  if (to.pairs) pair_up(to);
  return to;
}

}  // namespace braidlm::BRAIDLM_LEVEL
