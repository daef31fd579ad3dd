"""Reader of a published `quantization_config`: the layout of fp8 scales; every other quantization is refused.

Methods: "fp8" (fine-grained with blocks, as DeepSeek's and transformers' `FineGrainedFP8Config`; without blocks, as
vLLM's and AutoFP8's), "fbgemm_fp8", "modelopt" with FP8, and "compressed-tensors" in its two formats of plain fp8.
Which modules are quantized is not asked here: the tensors tell it. Activations are not quantized by braidlm.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import CheckpointError, quoted
from ..spec import is_whole

_FORMATS = ("float-quantized", "naive-quantized", "dense", "mixed-precision")
_STRATEGIES = ("tensor", "channel", "block", "group")
Block = tuple[int, int]


@dataclass(frozen=True)
class Fp8:
    """Layout of weights in fp8 with scales.

    `block` is the size (outputs, inputs) of what shares a scale, if that is a block.
    """

    block: Block | None = None


def read_fp8(metadata: Any, where: str) -> Fp8 | None:
    """Reads a `quantization_config`; None if nothing is quantized. `CheckpointError` for other methods."""
    if metadata is None or metadata == {}:
        return None
    if not isinstance(metadata, dict):
        raise CheckpointError(f"{where} has the quantization_config {quoted(metadata)}, but it must be an object")
    method = metadata.get("quant_method")
    if method in ("fp8", "fbgemm_fp8"):
        return Fp8(_block(metadata.get("weight_block_size"), where))
    if method == "compressed-tensors":
        return _compressed(metadata, where)
    if method == "modelopt" and str(metadata.get("quant_algo", "")).upper() == "FP8":
        return Fp8()
    kind = metadata.get("quant_algo") if method == "modelopt" else method
    raise _refusal(f"quantized by {quoted(kind)}", where)


def _refusal(what: str, where: str) -> CheckpointError:
    return CheckpointError(
        f"{where} says in its quantization_config that the weights are {what}, which is not read; "
        "load the original weights (quantize='int4' packs them while they are read), or a GGUF file of the model"
    )


def _compressed(metadata: Mapping[str, Any], where: str) -> Fp8 | None:
    """The layout of compressed-tensors, which has groups of modules with a scheme each."""
    compression = metadata.get("format", "dense")
    if compression not in _FORMATS:
        raise _refusal(f"compressed as {quoted(compression)}", where)
    sparsity = metadata.get("sparsity_config") or {}
    if isinstance(sparsity, dict) and sparsity.get("format", "dense") != "dense":
        raise _refusal(f"sparse as {quoted(sparsity.get('format'))}", where)
    if metadata.get("transform_config"):
        raise _refusal("rotated (transform_config)", where)
    groups = metadata.get("config_groups") or {}
    if not isinstance(groups, dict):
        raise CheckpointError(f"{where} has the config_groups {quoted(groups)}, but they must be an object")
    # A group without weights says something of activations, or of keys and values.
    groups = {name: group for name, group in groups.items() if not isinstance(group, dict) or group.get("weights")}
    blocks = {_group(name, group, where) for name, group in groups.items()} - {None}
    if len(blocks) > 1:
        raise _refusal("in blocks of several sizes", where)
    return Fp8(next(iter(blocks), None)) if groups else None


def _group(name: str, group: Any, where: str) -> Block | None:
    """The block of a group's weights, None for scales of tensors or rows."""
    if isinstance(group, list) and name.upper().startswith("FP8"):  # a scheme by its name, and its modules
        return (128, 128) if name.upper() == "FP8_BLOCK" else None
    weights = group.get("weights") if isinstance(group, dict) else None
    if not isinstance(weights, dict):
        raise _refusal(f"quantized by the scheme {quoted(name)}", where)
    compression = group.get("format") or "float-quantized"
    if compression not in _FORMATS:
        raise _refusal(f"compressed as {quoted(compression)}", where)
    bits, kind, strategy = weights.get("num_bits"), weights.get("type"), weights.get("strategy") or "tensor"
    if (bits, kind) != (8, "float") or strategy not in _STRATEGIES or weights.get("symmetric") is False:
        how = "" if weights.get("symmetric") is not False else ", not symmetric"
        raise _refusal(f"{quoted(bits)} bits of the type {quoted(kind)} by {quoted(strategy)}{how}", where)
    if strategy == "group":
        return _block([1, weights.get("group_size")], where)
    return _block(weights.get("block_structure") or [128, 128], where) if strategy == "block" else None


def _block(value: Any, where: str) -> Block | None:
    """Two sizes, as [128, 128] or "128x128"."""
    if value is None:
        return None
    given = value.split("x") if isinstance(value, str) else value
    sizes = [_size(one) for one in given] if isinstance(given, list) else []
    if len(sizes) == 2 and all(sizes):
        return sizes[0], sizes[1]
    raise CheckpointError(f"{where} has weight blocks of {quoted(value)}, but they must be two sizes, as [128, 128]")


def _size(value: Any) -> int:
    """A size from 1 to 2^31; 0 for anything else."""
    size = int(value) if isinstance(value, str) and value.isdecimal() and len(value) < 10 else value
    return size if is_whole(size) and 1 <= size <= 2**31 else 0
