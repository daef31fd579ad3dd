"""GGUF files: metadata and tensors, memory-mapped, of one file or several parts.

Quantized tensors are given back as float32 with exactly the values that they stand for.
What the names and numbers mean for a model is the families' business.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import CheckpointError, named, quoted, warn_loading
from ...spec import is_whole
from .dequantize import dequantize
from .header import GgufHeader
from .keys import check_keys
from .parts import read_parts
from .trunk import Trunk, find_trunk, trunk_fields

log = logging.getLogger("braidlm.loading")

_PLAIN = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
}


class GgufFile:
    """GGUF file: the language model of a file, or of all parts of one. `arch` is its architecture.

    `shapes` are torch's.
    """

    def __init__(self, path: Path) -> None:
        """Raises `CheckpointError` for what is missing, damaged or of another kind; warns of towers left out."""
        self.path = path
        parts = read_parts(path)
        self.fields: Mapping[str, Any] = parts[0].fields
        self.arch = self._architecture()
        predicting = self.fields.get(f"{self.arch}.nextn_predict_layers", 0)
        holders = {name: part for part in parts for name in part.tensors}
        try:
            check_keys(self.fields, self.arch)
            if not is_whole(predicting):
                raise CheckpointError(f"nextn_predict_layers is {quoted(predicting)}, but must be a whole number")
            self._trunk = find_trunk(holders, predicting)
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from None
        self._parts: dict[str, tuple[GgufHeader, str]] = {
            name: (holders[stored], stored) for name, stored in self._trunk.names.items()
        }
        self.shapes = {name: part.tensors[stored].shape for name, (part, stored) in self._parts.items()}
        _report(path, self._trunk)

    def _architecture(self) -> str:
        found = self.fields.get("general.architecture")
        if not isinstance(found, str):
            raise CheckpointError(f"{self.path} does not say its architecture (general.architecture)")
        return found

    def model_fields(self) -> dict[str, Any]:
        """Metadata of the architecture itself, without its prefix, for the blocks of the language model."""
        prefix = f"{self.arch}."
        own = {key.removeprefix(prefix): self.fields[key] for key in self.fields if key.startswith(prefix)}
        try:
            return trunk_fields(own, self._trunk)
        except CheckpointError as error:
            raise CheckpointError(f"{self.path}: {error}") from None

    def names(self) -> set[str]:
        """Names of all tensors."""
        return set(self._parts)

    def quantization(self, name: str) -> str:
        """Storage type of a tensor: F32, BF16, Q4_1, ..."""
        part, stored = self._parts[name]
        return part.tensors[stored].kind.name

    def blocks(self, name: str) -> np.ndarray:
        """Bytes of a quantized tensor as they are stored, [rows, bytes a row]."""
        part, stored = self._parts[name]
        rows = int(np.prod(self.shapes[name][:-1], dtype=np.int64))
        return part.bytes_of(stored).reshape(rows, -1)

    def get(self, name: str) -> Tensor:
        """One tensor; a view into the file where it is not quantized."""
        part, stored = self._parts[name]
        kind, shape = self.quantization(name), torch.Size(self.shapes[name])
        if kind in _PLAIN:
            return torch.from_numpy(part.bytes_of(stored)).view(_PLAIN[kind]).reshape(shape)
        found = torch.empty(shape[:-1].numel(), shape[-1])
        self.dequantize(name, found)
        return found.view(shape)

    def dequantize(self, name: str, out: Tensor, rows_N: np.ndarray | None = None) -> None:
        """Dequantizes a quantized tensor into `out` [N, I]: all its rows, or those of the numbers `rows_N`."""
        kind = self.quantization(name)
        try:
            dequantize(kind, self.blocks(name), out, rows_N)
        except NotImplementedError:
            raise CheckpointError(f"tensor {name} is stored as {kind}, which cannot be read") from None


def _report(path: Path, trunk: Trunk) -> None:
    """Names what is left out: parts of a model in a warning, what can be computed in the log."""
    for what, names in (("of other towers", trunk.towers), ("that predict tokens further ahead", trunk.ahead)):
        if names:
            warn_loading(f"{path}: tensors {what} are left out: {named(names)}")
    if trunk.buffers:
        log.debug("%s: tables of angles are left out: %s", path, named(trunk.buffers))
