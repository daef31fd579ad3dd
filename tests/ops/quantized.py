"""Quantized weights with scales of every size."""

import torch

from braidlm.ops.linear.quantized import QuantizedWeight, nibbles
from braidlm.ops.linear.round_to_nearest import quantize_weight


def quantized(kind: str, outputs: int, inputs: int) -> QuantizedWeight:
    if kind != "int4-low":
        return quantize_weight(torch.randn(outputs, inputs), kind, dtype=torch.float32)
    steps = torch.randint(16, (outputs, inputs), dtype=torch.uint8)
    scale, low = (torch.randn(outputs, inputs // 32).half() for _ in range(2))
    return QuantizedWeight("int4", nibbles(steps), scale, low, dtype=torch.float32)
