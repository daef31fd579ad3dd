"""Names of dtypes: "bfloat16" as torch calls it, and the short names that users give."""

import torch

_LONG = {
    "fp64": "float64", "fp32": "float32", "f32": "float32", "bf16": "bfloat16", "fp16": "float16", "f16": "float16"
}  # fmt: skip


def long_name(name: str) -> str:
    """Long name of a dtype whose short name this is; any other name as it stands."""
    return _LONG.get(name, name)


def name_of(dtype: torch.dtype) -> str:
    """Long name of torch's dtype."""
    return str(dtype).removeprefix("torch.")


def torch_dtype(name: str) -> torch.dtype:
    """Dtype of torch whose long name this is."""
    found: torch.dtype = getattr(torch, name)
    return found
