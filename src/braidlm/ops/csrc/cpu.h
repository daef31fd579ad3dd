// Which instruction sets this processor and its operating system offer.
#pragma once

#include <string>
#include <vector>

namespace braidlm {

// Names of the instruction-set extensions that kernels may be compiled for, of those present here.
std::vector<std::string> cpu_features();

}  // namespace braidlm
