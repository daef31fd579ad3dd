// Weights as numbers, and products with them: tiles of a weight are widened to floats that stay in the cache while
// all tokens are multiplied with them.
#include "../csrc/product.h"
#include "../csrc/staging.h"
#include "expand.h"

namespace braidlm::BRAIDLM_LEVEL {
namespace {

// A tile of a weight. Its rows are a cache line further apart than they are long: rows a power of two apart would push
// each other out.
constexpr int64_t kOutputsOfTile = 64, kInputsOfTile = 256, kRowOfTile = kInputsOfTile + 16;
static_assert(kInputsOfTile % kGroup == 0 && kOutputsOfTile % kTileRows == 0);

void expand(const Matrix& weight, int64_t begin, int64_t end, const Table& out) {
  for (int64_t row = begin; row < end; ++row) with_row(out, row - begin, [&](auto* y) { expand_row(weight, row, y); });
}

// to[c, r] = from[r][c] of a square.
void turn(const float (&from)[kSimdWidth][kSimdWidth], float* to, int64_t of_row) {
  for (int c = 0; c < kSimdWidth; ++c) {
    Floats column;
    unrolled<kSimdWidth>([&](auto r) { column[int(r)] = from[r][c]; });
    store(to + c * of_row, column);
  }
}

template <class T>
void lay_out_square(const T* x, int64_t stride, int tokens, int inputs, float* panel) {
  float square[kSimdWidth][kSimdWidth] = {};
  for (int t = 0; t < tokens; ++t) store(square[t], at(x + t * stride, inputs));
  if (inputs == kSimdWidth) return turn(square, panel, kTileColumns);
  for (int c = 0; c < inputs; ++c)
    for (int t = 0; t < kSimdWidth; ++t) panel[c * kTileColumns + t] = square[t][c];
}

void lay_out(const Table& x, int64_t tokens, int64_t inputs, int64_t begin, int64_t end, float* panels) {
  for (int64_t t = begin * kTileColumns; t < end * kTileColumns; t += kSimdWidth) {
    const int count = int(t >= tokens ? 0 : tokens - t < kSimdWidth ? tokens - t : kSimdWidth);
    float* panel = panels + t / kTileColumns * kTileColumns * inputs + t % kTileColumns;
    with_row(x, count ? t : 0, [&](auto* rows) {
      by_vectors(0, inputs, [&](int64_t i, int active) {
        lay_out_square(rows + i, x.stride, count, active, panel + i * kTileColumns);
      });
    });
  }
}

// sums[output, token] += the tile's inputs.
void add_tile(const float* tile, int64_t outputs, int64_t inputs, const float* panels, int64_t of_panel, int64_t tokens,
              float* sums) {
  for (int64_t t = 0; t < tokens; t += kTileColumns, panels += of_panel)
    for (int64_t o = 0; o < outputs; o += kTileRows) {
      Accumulators acc;
      load_scaled(acc, 1.0f, sums + o * tokens + t, tokens);
      multiply_add(acc, {tile + o * kRowOfTile, kRowOfTile, 1}, panels, kTileColumns, inputs);
      store(sums + o * tokens + t, tokens, acc);
    }
}

// y[t, o ..] = sums[o .., t] for the outputs of a tile.
void write_sums(const float* sums, int64_t wide, int64_t tokens, int64_t first, int64_t outputs, const Table& y) {
  for (int64_t t = 0; t < tokens; ++t)
    with_row(y, t, [&](auto* row) {
      by_vectors(0, outputs, [&](int64_t o, int active) {
        const float* from = sums + o * wide + t;
        Floats values = {};
        if (active == kSimdWidth)
          unrolled<kSimdWidth>([&](auto i) { values[int(i)] = from[i * wide]; });
        else
          for (int i = 0; i < active; ++i) values[i] = from[i * wide];
        put(row + first + o, active, values);
      });
    });
}

int64_t room(int64_t tokens) { return kOutputsOfTile * (kRowOfTile + padded(tokens, kTileColumns)); }

void multiply(const Matrix& weight, const float* panels, int64_t tokens, int64_t begin, int64_t end, const Table& y,
              float* tile) {
  const int64_t wide = padded(tokens, kTileColumns), of_panel = weight.inputs * kTileColumns;
  float* const sums = tile + kOutputsOfTile * kRowOfTile;
  for (int64_t first = begin; first < end; first += kOutputsOfTile) {
    const int64_t outputs = end - first < kOutputsOfTile ? end - first : kOutputsOfTile;
    const int64_t rows = padded(outputs, kTileRows);
    std::memset(sums, 0, rows * wide * sizeof(float));
    std::memset(tile + outputs * kRowOfTile, 0, (rows - outputs) * kRowOfTile * sizeof(float));
    for (int64_t k = 0; k < weight.inputs; k += kInputsOfTile) {
      const int64_t inputs = weight.inputs - k < kInputsOfTile ? weight.inputs - k : kInputsOfTile;
      for (int64_t o = 0; o < outputs; ++o) expand_part(weight, first + o, k, k + inputs, tile + o * kRowOfTile);
      add_tile(tile, rows, inputs, panels + k * kTileColumns, of_panel, wide, sums);
    }
    write_sums(sums, wide, tokens, first, outputs, y);
  }
}

}  // namespace

extern const LinearNativeKernels linear_native;
const LinearNativeKernels linear_native = {expand, kTileColumns, lay_out, room, multiply};

}  // namespace braidlm::BRAIDLM_LEVEL
