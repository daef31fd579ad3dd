// Tensors as they come from Python: every shape and dtype is checked before a kernel sees a pointer.
#pragma once

#include <nanobind/ndarray.h>

#include <initializer_list>
#include <stdexcept>
#include <string>

#include "types.h"

namespace braidlm {

namespace nb = nanobind;

inline void require(bool fine, const std::string& message) {
  if (!fine) throw std::invalid_argument(message);
}

// A contiguous tensor in CPU memory.
using Array = nb::ndarray<nb::c_contig, nb::device::cpu>;

inline constexpr nb::dlpack::dtype kBFloat16 = {uint8_t(nb::dlpack::dtype_code::Bfloat), 16, 1};

template <class T>
inline nb::dlpack::dtype dtype_of() {
  return nb::dtype<T>();
}
template <>
inline nb::dlpack::dtype dtype_of<BFloat16>() {
  return kBFloat16;
}

// A tensor in CPU memory whose last dimension is contiguous.
using Strided = nb::ndarray<nb::device::cpu>;

// A [rows, width] tensor of float or bfloat16; std::invalid_argument if it is anything else.
inline Table checked_table(const Strided& array, const char* name, int64_t rows, int64_t width) {
  const bool known = array.dtype() == nb::dtype<float>() || array.dtype() == kBFloat16;
  if (!known) throw std::invalid_argument(std::string(name) + " must be float32 or bfloat16");
  if (array.ndim() != 2 || int64_t(array.shape(0)) != rows || int64_t(array.shape(1)) != width)
    throw std::invalid_argument(std::string(name) + " must have the shape [" + std::to_string(rows) + ", " +
                                std::to_string(width) + "]");
  if (width > 1 && array.stride(1) != 1) throw std::invalid_argument(std::string(name) + " must have contiguous rows");
  return {const_cast<void*>(static_cast<const void*>(array.data())),
          array.dtype() == kBFloat16 ? Dtype::kBFloat16 : Dtype::kFloat, array.stride(0)};
}

// A [rows, tokens, channels] tensor of float or bfloat16; std::invalid_argument if it is anything else.
inline Sequence checked_sequence(const Strided& array, const char* name, int64_t rows, int64_t tokens,
                                 int64_t channels) {
  const bool known = array.dtype() == nb::dtype<float>() || array.dtype() == kBFloat16;
  if (!known) throw std::invalid_argument(std::string(name) + " must be float32 or bfloat16");
  if (array.ndim() != 3 || int64_t(array.shape(0)) != rows || int64_t(array.shape(1)) != tokens ||
      int64_t(array.shape(2)) != channels)
    throw std::invalid_argument(std::string(name) + " must have the shape [" + std::to_string(rows) + ", " +
                                std::to_string(tokens) + ", " + std::to_string(channels) + "]");
  if (channels > 1 && array.stride(2) != 1)
    throw std::invalid_argument(std::string(name) + " must have contiguous channels");
  return {const_cast<void*>(static_cast<const void*>(array.data())),
          array.dtype() == kBFloat16 ? Dtype::kBFloat16 : Dtype::kFloat, array.stride(0), array.stride(1)};
}

// The size of a dimension; 0 if there is no such dimension, which the checks that follow refuse.
inline int64_t size_of(const Strided& array, size_t dimension) {
  return dimension < array.ndim() ? int64_t(array.shape(dimension)) : 0;
}

// The array's memory as T; std::invalid_argument unless it has exactly this dtype and shape (-1: any size).
template <class T>
T* checked(const Array& array, const char* name, std::initializer_list<int64_t> shape) {
  bool fits = array.ndim() == shape.size();
  size_t at = 0;
  for (int64_t size : shape) {
    if (!fits) break;
    fits = size < 0 || int64_t(array.shape(at)) == size;
    ++at;
  }
  if (!fits) {
    std::string found = "[", wanted = "[";
    for (size_t i = 0; i < array.ndim(); ++i) found += (i ? ", " : "") + std::to_string(array.shape(i));
    for (int64_t size : shape) wanted += (wanted.size() > 1 ? ", " : "") + (size < 0 ? "any" : std::to_string(size));
    throw std::invalid_argument(std::string(name) + " has the shape " + found + "], but " + wanted + "] is needed");
  }
  if (array.dtype() != dtype_of<T>()) throw std::invalid_argument(std::string(name) + " has another dtype than needed");
  return static_cast<T*>(const_cast<void*>(static_cast<const void*>(array.data())));
}

}  // namespace braidlm
