// One level's row of the table of kernels.
#include "kernels.h"

namespace braidlm::BRAIDLM_LEVEL {

extern const NormKernels norm_kernels;
extern const NormBackward norm_backward;
extern const CausalConv1dKernels causal_conv1d_kernels;
extern const CausalConv1dBackward causal_conv1d_backward;
extern const LinearKernels linear_kernels;
extern const PlanKernels plan_kernels;
extern const PointwiseKernels pointwise_kernels;
extern const CrossEntropyKernels cross_entropy_kernels;
extern const AttentionKernels attention_kernels;
extern const AttentionBackward attention_backward;
extern const SsdKernels ssd_kernels;
extern const SsdBackward ssd_backward;
extern const GatedConvKernels gated_conv_kernels;
extern const GatedConvBackward gated_conv_backward;
extern const SelectiveScanKernels selective_scan_kernels;
extern const SelectiveScanBackward selective_scan_backward;

extern const Kernels kernels;
const Kernels kernels = {
    &norm_kernels,
    &norm_backward,
    &causal_conv1d_kernels,
    &causal_conv1d_backward,
    &linear_kernels,
    &plan_kernels,
    &pointwise_kernels,
    &cross_entropy_kernels,
    &attention_kernels,
    &attention_backward,
    &ssd_kernels,
    &ssd_backward,
    &gated_conv_kernels,
    &gated_conv_backward,
    &selective_scan_kernels,
    &selective_scan_backward,
};

}  // namespace braidlm::BRAIDLM_LEVEL
