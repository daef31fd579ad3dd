"""Quantized tensors of GGUF files as plain weights: dequantized row by row, straight to where the model has them.

Legend: N = rows (outputs of all experts).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..model.footprint import parameter_dtypes
from ..model.model import Model
from ..ops.linear.quantized import QuantizedWeight
from ..system.huge_pages import HugePages
from .binding import Bound
from .gguf import GgufFile
from .gguf_quantized import is_quantized
from .rows import row_places


class DequantizedRows:
    """Reader of quantized tensors whose rows a rule leaves whole, into huge pages (a `binding.WeightReader`)."""

    def __init__(self, model: Model, file: GgufFile, dtype: torch.dtype) -> None:
        self._file = file
        self._dtypes = parameter_dtypes(model, dtype)
        self._memory = HugePages()

    def read_entry(self, entry: Bound, shapes: Sequence[torch.Size]) -> list[Tensor] | None:
        """Weights of an entry that moves rows of one quantized tensor; None for any other."""
        source, *more = entry.source
        if more or not is_quantized(self._file, source):
            return None
        places = row_places(entry.rule, [torch.Size(self._file.shapes[source])], shapes)
        if places is None:
            return None
        return [
            self._read(source, rows_N, shape, self._dtypes[name])
            for name, rows_N, shape in zip(entry.target, places, shapes, strict=True)
        ]

    def _read(self, source: str, rows_N: Tensor, shape: torch.Size, dtype: torch.dtype) -> Tensor:
        weight = self._memory.empty(shape, dtype)
        all_rows = torch.equal(rows_N, torch.arange(torch.Size(self._file.shapes[source])[:-1].numel()))
        self._file.dequantize(source, weight.view(-1, shape[-1]), None if all_rows else rows_N.numpy())
        return weight

    def quantized(self, name: str, tensor: Tensor) -> QuantizedWeight | None:
        """Quantizes nothing."""
        return None
