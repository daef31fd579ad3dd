"""How the weights are stored in a comparison, and what that is called on each side."""

import inspect
from typing import Any

from ..errors import InputError, UnavailableError
from ..loading import load

# Bits of a weight in a matrix; the scales of quantized weights come on top and are not counted in floors.
BITS = {"f32": 32, "bf16": 16, "int8": 8, "int4": 4}
_DTYPES = {"f32": "float32", "bf16": "bfloat16"}


def check(precision: str) -> None:
    """`InputError` for an unknown precision, `UnavailableError` for one that this braidlm does not have."""
    if precision not in BITS:
        raise InputError(f"precision is {precision!r}, but must be one of {', '.join(BITS)}")
    if precision not in _DTYPES and "quantize" not in inspect.signature(load).parameters:
        raise UnavailableError(f"this version of braidlm cannot load weights as {precision}; take bf16 or f32")


def load_options(precision: str) -> dict[str, Any]:
    """The arguments of `braidlm.load` for a precision."""
    check(precision)
    return {"dtype": _DTYPES[precision]} if precision in _DTYPES else {"dtype": "bfloat16", "quantize": precision}


def stored_dtype(precision: str) -> str:
    """The dtype of the files from which a precision is loaded: quantized weights are made from bfloat16."""
    return _DTYPES.get(precision, "bfloat16")
