"""Batch description that every mixer gets beside its input: lengths, positions, rotary tables."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..ops import Segments
from .rotary import Rotation


@dataclass(frozen=True)
class Batch:
    """A packed batch: the lengths of its rows and the absolute position of each row's first new token."""

    segments: Segments
    starts: tuple[int, ...]
    device: torch.device

    @cached_property
    def positions_T(self) -> Tensor:
        """Absolute position of every packed token, meta tokens counted."""
        spans = [torch.arange(s, s + n) for s, n in zip(self.starts, self.segments.lengths, strict=True)]
        return torch.cat(spans).to(self.device)

    @cached_property
    def rotation(self) -> Rotation:
        """Rotary tables of the batch, shared by all blocks."""
        return Rotation(self.positions_T)
