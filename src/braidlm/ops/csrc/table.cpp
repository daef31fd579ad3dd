// One level's row of the table of kernels.
#include "kernels.h"

namespace braidlm::BRAIDLM_LEVEL {

extern const NormKernels norm_kernels;

extern const Kernels kernels;
const Kernels kernels = {&norm_kernels};

}  // namespace braidlm::BRAIDLM_LEVEL
