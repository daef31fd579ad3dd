// Tables of kernels: one for each file of kernels and each instruction-set level.
//
// A `native.cpp`, `backward.cpp` or `step.cpp` of an operation is compiled once per level, in the namespace
// braidlm::<level>, and exports its functions as one struct: ssd's step.cpp exports `ssd_step`, an `SsdStepKernels`.
// CMakeLists.txt finds these files and writes their list, so that a new one needs no other edit. Nothing that is
// compiled per level may be reached other than through these tables: the linker would be free to take, say, the
// AVX-512 copy of an inline function for everyone. So kernels use no standard containers.
#pragma once

#include <string>
#include <vector>

namespace braidlm {

// The number of the level in use: the best that this processor has, unless another was asked for.
int current_level();

// The table of a type for a level, by its number.
template <class Kernels>
const Kernels& kernels(int level);

// The table for the level in use.
template <class Kernels>
const Kernels& kernels() {
  return kernels<Kernels>(current_level());
}

#define BRAIDLM_KERNELS(name, Kernels) \
  struct Kernels;                      \
  template <>                          \
  const Kernels& kernels<Kernels>(int level);
#include "kernel_list.h"
#undef BRAIDLM_KERNELS

// Names of the levels that are compiled in and that this processor can run, slowest first.
std::vector<std::string> levels();

// The level in use.
std::string level();

// Uses another level from the next call on; std::invalid_argument if it is none of `levels()`.
void set_level(const std::string& name);

}  // namespace braidlm
