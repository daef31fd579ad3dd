// The processor's matrix unit: registers of 16 rows of 64 bytes, and sums of products of pairs of bfloat16 numbers,
//
//   sums[m, n] += sum over k of left[m, 2k] right[k, 2n] + left[m, 2k + 1] right[k, 2n + 1]
//
// A right operand holds pair k of all columns side by side. Terms are added in the order of k; denormals count as zero.
#pragma once

#include "vec.h"

namespace braidlm::BRAIDLM_LEVEL {

#if defined(__AMX_BF16__)

inline constexpr int kUnitRows = 16, kUnitPairs = 16;  // of a register; it has as many columns as rows

// The unit's registers, shaped for the scope's work; who else uses them in this thread finds their shapes as before.
class MatrixUnit {
 public:
  // Registers: a left operand, a right one, and sums; and the last two for what has only `rest` columns.
  static constexpr int kLeft = 0, kRight = 1, kSums = 2, kRightOfRest = 3, kSumsOfRest = 4;

  explicit MatrixUnit(int rest = 0) {
    asm volatile("sttilecfg %0" : "=m"(before_));
    Shapes shapes = {};
    shapes.palette = 1;
    for (int tile : {kLeft, kRight, kSums}) shapes.shape(tile, kUnitRows);
    if (rest)
      for (int tile : {kRightOfRest, kSumsOfRest}) shapes.shape(tile, rest);
    set(shapes);
  }
  ~MatrixUnit() { set(before_); }
  MatrixUnit(const MatrixUnit&) = delete;
  MatrixUnit& operator=(const MatrixUnit&) = delete;

  // Compilers' own functions take no constants of a template for registers, and do not say which memory they read.
  template <int kTile>
  static void load(const void* from, int64_t bytes_of_row) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(bytes_of_row), "i"(kTile) : "memory");
  }
  template <int kTile>
  static void store(void* to, int64_t bytes_of_row) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(to), "r"(bytes_of_row), "i"(kTile) : "memory");
  }
  template <int kTile>
  static void zero() {
    asm volatile("tilezero %%tmm%c0" : : "i"(kTile));
  }
  // sums += left right, of which the registers are named.
  template <int kTo, int kRightOperand>
  static void multiply_add() {
    asm volatile("tdpbf16ps %%tmm%c0, %%tmm%c1, %%tmm%c2" : : "i"(kRightOperand), "i"(kLeft), "i"(kTo));
  }

 private:
  struct alignas(64) Shapes {
    uint8_t palette, first_row, reserved[14];
    uint16_t bytes[16];  // of a row
    uint8_t rows[16];

    void shape(int tile, int columns) {
      bytes[tile] = uint16_t(4 * columns);
      rows[tile] = kUnitRows;
    }
  };
  static_assert(sizeof(Shapes) == 64);

  static void set(const Shapes& shapes) { asm volatile("ldtilecfg %0" : : "m"(shapes)); }

  Shapes before_;
};

#endif

}  // namespace braidlm::BRAIDLM_LEVEL
