"""Usable length in a checkpoint's metadata: how far a model was measured to be usable (see `eval/usable_length.py`).

It is a key of config.json, or of braidlm.json in braidlm's own layout. It changes no arithmetic: beyond it generation
warns, once. transformers passes over it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, quoted
from ..spec import is_whole

KEY = "usable_length"


def usable_length_of(metadata: Mapping[str, Any], where: Path) -> int | None:
    """Usable length that a file's metadata name, or None; `CheckpointError` if it is no number of tokens."""
    value = metadata.get(KEY)
    if value is not None and (not is_whole(value) or value < 1):
        raise CheckpointError(f"{where} has the {KEY} {quoted(value)}, but it must be a number of tokens from 1")
    return value
