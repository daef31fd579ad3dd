"""GGUF files: metadata and tensors, memory-mapped, through the `gguf` package.

Quantized tensors are given back as float32 with exactly the values that they stand for. What the
names and numbers mean for a model is the families' business.
"""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from torch import Tensor

from .errors import CheckpointError

_PLAIN = {"F32", "F16", "F64", "I8", "I16", "I32", "I64"}


class GgufFile:
    """One file. `arch` is its architecture; `shapes` are torch's (rows first)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._reader = gguf.GGUFReader(path, "c")  # private mapping: tensors may be written to, the file is not
            self._tensors = {tensor.name: tensor for tensor in self._reader.tensors}
            self.arch = str(self._field("general.architecture"))
        except FileNotFoundError:
            raise CheckpointError(f"the GGUF file {path} does not exist") from None
        except (ValueError, IndexError, KeyError, OSError, UnicodeDecodeError, OverflowError) as error:
            raise CheckpointError(f"{path} is truncated, damaged or no GGUF file ({type(error).__name__})") from None
        self.shapes = {name: tuple(int(n) for n in reversed(t.shape)) for name, t in self._tensors.items()}

    def _field(self, key: str) -> Any:
        return self._reader.fields[key].contents()

    @cached_property
    def fields(self) -> Mapping[str, Any]:
        """All metadata as plain values; arrays, the tokenizer's tables among them, are read when asked for."""
        return _Fields(self._reader)

    def model_fields(self) -> dict[str, Any]:
        """The architecture's own metadata, without its prefix."""
        prefix = f"{self.arch}."
        return {key.removeprefix(prefix): self._field(key) for key in self._reader.fields if key.startswith(prefix)}

    def names(self) -> set[str]:
        """The names of all tensors."""
        return set(self._tensors)

    def quantization(self, name: str) -> str:
        """The tensor's storage type: F32, BF16, Q4_1, ..."""
        return str(self._tensors[name].tensor_type.name)

    def blocks(self, name: str) -> np.ndarray:
        """The bytes of a quantized tensor as they are stored, [rows, bytes a row]."""
        data: np.ndarray = self._tensors[name].data
        return data.reshape(-1, data.shape[-1])

    def get(self, name: str) -> Tensor:
        """One tensor; a view into the file where it is not quantized."""
        tensor, kind = self._tensors[name], self.quantization(name)
        if kind == "BF16":
            return torch.from_numpy(tensor.data.view(np.int16)).view(torch.bfloat16).reshape(self.shapes[name])
        if kind in _PLAIN:
            return torch.from_numpy(tensor.data).reshape(self.shapes[name])
        try:
            values = gguf.dequantize(tensor.data, tensor.tensor_type)
        except NotImplementedError:
            raise CheckpointError(f"tensor {name} is stored as {kind}, which cannot be read") from None
        return torch.from_numpy(values).reshape(self.shapes[name])


class _Fields(Mapping[str, Any]):
    """A reader's metadata as a mapping of plain values."""

    def __init__(self, reader: gguf.GGUFReader) -> None:
        self._reader = reader

    def __getitem__(self, key: str) -> Any:
        return self._reader.fields[key].contents()

    def __iter__(self) -> Any:
        return iter(self._reader.fields)

    def __len__(self) -> int:
        return len(self._reader.fields)
