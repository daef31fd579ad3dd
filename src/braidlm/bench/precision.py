"""Precisions of a comparison: how weights are stored, and their names on each side."""

from typing import Any

from ..errors import InputError
from ..planner.weight_bits import BITS

_DTYPES = {"f32": "float32", "bf16": "bfloat16"}


def check(precision: str) -> None:
    """Raises `InputError` for an unknown precision."""
    if precision not in BITS:
        raise InputError(f"precision is {precision!r}, but must be one of {', '.join(BITS)}")


def load_options(precision: str) -> dict[str, Any]:
    """Arguments of `braidlm.load` for a precision."""
    check(precision)
    return {"dtype": _DTYPES[precision]} if precision in _DTYPES else {"dtype": "bfloat16", "quantize": precision}


def stored_dtype(precision: str) -> str:
    """Dtype of the files from which a precision is loaded: quantized weights are made from bfloat16."""
    return _DTYPES.get(precision, "bfloat16")
