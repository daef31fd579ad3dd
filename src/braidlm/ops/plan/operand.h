// The inputs of a product, in the format that its weight is multiplied in. Per level.
//
//   float, fp8:  float
//   bfloat16:    rounded to bfloat16, as torch's own products of such weights have them
//   int8, int4:  whole numbers of 16 bits and one scale a row; the sums over them are exact
#pragma once

#include "../csrc/vec.h"
#include "plan.h"

namespace braidlm::BRAIDLM_LEVEL {

#if defined(__AVX512VNNI__)
inline constexpr bool kBytePairs = true;  // 16-bit inputs as 256 high + low, for products of bytes
#else
inline constexpr bool kBytePairs = false;
#endif

// Rows are padded with zeros to a multiple of 128. A multiple of 4 KiB between them would put all
// rows into the same few lines of the first-level cache, hence the odd 64.
inline int64_t row_stride(int64_t width, int rows) { return (width + 127) / 128 * 128 + (rows > 1 ? 64 : 0); }

// Of a tile of dot products: outputs, rows at most, and rows at most where the matrix unit computes it.
inline constexpr int kOutputs = 16, kRows = 4, kMostRows = 16;

// Whether the processor's matrix unit multiplies by a weight; it takes so many numbers of a row at a time.
inline constexpr int64_t kUnitPart = 32;
#if defined(__AMX_BF16__)
inline bool by_unit(WeightFormat format, int64_t inputs) {
  return format == WeightFormat::kBFloat16 && inputs % kUnitPart == 0;
}
#else
inline bool by_unit(WeightFormat, int64_t) { return false; }
#endif

struct Operand {
  WeightFormat format;
  int rows;
  int64_t width, stride;  // a row holds `width` numbers, then zeros
  float* floats;          // [rows, stride]; for bfloat16 weights rounded to it
  BFloat16* bfloats;      // [rows, stride], for bfloat16 weights
  BFloat16* pairs;        // of each kMostRows rows: [width / 2, rows, 2], for the matrix unit
  int16_t* shorts;        // [rows, stride], for int8 and int4 weights as all that follow
  int8_t *high, *low;     // [rows, stride]
  float* scales;          // [rows]
  float* sums;            // [rows, stride / 32]: scale * sum of each group
};

// An operand whose floats are to be written; and, when they are, its other forms.
Operand begin_operand(int rows, int64_t width, WeightFormat format, char* scratch);
void finish_operand(Operand& operand, int rows);

// One row of an input as floats.
void evaluate(const Input& input, const float* row, float* y);

// Computes `input` for all rows and puts it into the format that `format` needs, in `scratch`.
Operand prepare_operand(const Pass& pass, const Input& input, WeightFormat format, char* scratch);

// Some rows of an operand, one after the other.
Operand gather_rows(const Operand& from, const int* rows, int count, char* scratch);

// The operand of plain floats: `row(j)` is row j's address.
template <class Row>
Operand operand_of_rows(Row row, int rows, int64_t width, WeightFormat format, char* scratch) {
  Operand operand = begin_operand(rows, width, format, scratch);
  for (int j = 0; j < rows; ++j) std::memcpy(operand.floats + j * operand.stride, row(j), width * sizeof(float));
  finish_operand(operand, rows);
  return operand;
}

}  // namespace braidlm::BRAIDLM_LEVEL
