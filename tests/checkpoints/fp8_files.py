"""Checkpoints in fp8 as three kinds of tools write them, by plain loops that share nothing with what reads them."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tests.checkpoints.files import Tensors, edit_config, edit_tensors

LARGEST = 448.0  # of e4m3


class Layout(NamedTuple):
    """The config that says a layout, the end of a scale's name, numbers and scale of a weight, and the way back."""

    config: dict[str, Any]
    end: str
    quantize: Callable[[Tensor], tuple[Tensor, Tensor]]
    values: Callable[[Tensor, Tensor], Tensor]


def by_tensor(weight: Tensor) -> tuple[Tensor, Tensor]:
    """One scale in all."""
    scale = weight.float().abs().max() / LARGEST
    return (weight.float() / scale).to(torch.float8_e4m3fn), scale


def by_row(weight: Tensor) -> tuple[Tensor, Tensor]:
    """[..., O, 1]: a scale a row, in bfloat16 as llm-compressor writes them."""
    scale = (weight.float().abs().amax(-1, keepdim=True) / LARGEST).bfloat16()
    return (weight.float() / scale.float()).clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn), scale


def by_block(weight: Tensor, size: int = 128) -> tuple[Tensor, Tensor]:
    """A scale a block; the last blocks hold what is left."""
    outputs, inputs = weight.shape
    q = torch.empty(outputs, inputs, dtype=torch.float8_e4m3fn)
    scale = torch.empty(-(-outputs // size), -(-inputs // size))
    for i in range(scale.shape[0]):
        for j in range(scale.shape[1]):
            place = (slice(i * size, (i + 1) * size), slice(j * size, (j + 1) * size))
            block = weight[place].float()
            scale[i, j] = block.abs().max() / LARGEST
            q[place] = (block / scale[i, j]).to(torch.float8_e4m3fn)
    return q, scale


def plain(q: Tensor, scale: Tensor) -> Tensor:
    """What fp8 numbers stand for where the scale is one number, or one a row."""
    return q.float() * scale.float()


def plain_blocks(q: Tensor, scale: Tensor, size: int = 128) -> Tensor:
    """The same for blocks: each number has the scale of its row's and its column's block."""
    rows, columns = torch.arange(q.shape[0]) // size, torch.arange(q.shape[1]) // size
    return q.float() * scale[rows][:, columns]


def _compressed(strategy: str) -> dict[str, Any]:
    weights = {"num_bits": 8, "type": "float", "strategy": strategy, "symmetric": True, "dynamic": False}
    group = {"targets": ["Linear"], "weights": weights, "input_activations": {"num_bits": 8, "dynamic": True}}
    return {
        "quant_method": "compressed-tensors",
        "format": "float-quantized",
        "config_groups": {"group_0": group},
        "ignore": ["lm_head"],
        "kv_cache_scheme": None,
        "quantization_status": "compressed",
    }


def _blocks(size: int) -> Layout:
    config = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [size, size]}
    return Layout(config, "_scale_inv", partial(by_block, size=size), partial(plain_blocks, size=size))


LAYOUTS = {
    "tensor": Layout({"quant_method": "fp8", "activation_scheme": "static"}, "_scale", by_tensor, plain),
    "channel": Layout(_compressed("channel"), "_scale", by_row, plain),
    "block": _blocks(128),
    "small block": _blocks(20),  # for weights of tiny models: several blocks, the last ones smaller
}


def is_linear(name: str, tensor: Tensor) -> bool:
    """Whether tools quantize it: matrices of linear layers within blocks."""
    inside = any(
        part in name for part in ("proj.weight", "linear.weight", "Wqkv.weight", "projections.weight", ".mlp.l")
    )
    return inside and tensor.dim() == 2


def to_fp8(directory: Path, layout: str, wanted: Callable[[str, Tensor], bool] = is_linear) -> Tensors:
    """Turns a checkpoint's wanted weights into fp8 where it lies; returns the float32 values that they stand for."""
    config, end, quantize, to_values = LAYOUTS[layout]
    values: Tensors = {}

    def change(tensors: Tensors) -> Tensors:
        made: Tensors = {}
        for name, tensor in tensors.items():
            if not wanted(name, tensor):
                made[name] = tensor
                continue
            made[name], made[name + end] = quantize(tensor)
            values[name] = to_values(made[name], made[name + end])
        return made

    edit_tensors(directory, change)
    edit_config(directory, quantization_config=config)
    assert values
    return values
