// Weights as they come from Python.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "../csrc/arrays.h"
#include "matrix.h"

namespace braidlm {

// A checked weight that keeps its tensors alive.
struct Weight {
  Weight(const std::string& format, Array data, std::optional<Array> scale, std::optional<Array> low, int64_t outputs,
         int64_t inputs, int64_t experts);
  Matrix matrix;
  int64_t experts;
  std::vector<Array> held;
};

}  // namespace braidlm
