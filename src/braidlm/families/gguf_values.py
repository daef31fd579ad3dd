"""Optional values of GGUF metadata, of the type that they must have: another one is refused, not left out."""

from collections.abc import Mapping
from typing import Any

from ..errors import SpecError, quoted
from ..spec import is_finite


def flag(fields: Mapping[str, Any], key: str, default: bool) -> bool:
    """Reads true or false; `default` where the key is absent."""
    value = fields.get(key, default)
    if not isinstance(value, bool):
        raise SpecError(f"this GGUF file's {key!r} is {quoted(value)}, but must be true or false")
    return value


def number(fields: Mapping[str, Any], key: str, default: float) -> float:
    """Reads a finite number; `default` where the key is absent."""
    value = fields.get(key, default)
    if not is_finite(value):
        raise SpecError(f"this GGUF file's {key!r} is {quoted(value)}, but must be a finite number")
    return float(value)
