"""Quantized weights through a family's rules: whole rows, moved with their scales.

Legend: N = rows (outputs of all experts) of a rule's tensors, stacked.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..families import Rule
from ..ops.linear.quantized import QuantizedWeight


def row_places(rule: Rule, sources: Sequence[torch.Size], targets: Sequence[torch.Size]) -> list[Tensor] | None:
    """For each target, the numbers of the stacked source rows that it consists of; None if rows are not kept whole.

    The rule itself tells: it is applied to tensors of two columns, numbered throughout.
    """
    begin, numbered = 0, []
    for shape in sources:
        rows = shape[:-1].numel()
        numbered.append(torch.arange(2 * begin, 2 * (begin + rows)).view(*shape[:-1], 2))
        begin += rows
    if any(shape[-1] != sources[0][-1] for shape in (*sources, *targets)):
        return None
    narrow = [torch.Size([*shape[:-1], 2]) for shape in targets]
    found = rule.read(numbered, narrow)
    whole = all(
        part.shape == shape and bool((part[..., 0] % 2 == 0).all()) and torch.equal(part[..., 1], part[..., 0] + 1)
        for part, shape in zip(found, narrow, strict=True)
    )
    return [part[..., 0].flatten() // 2 for part in found] if whole else None


def take_rows(whole: QuantizedWeight, rows_N: Tensor, shape: torch.Size) -> QuantizedWeight:
    """Takes rows of a quantized weight [N, I] into a shape; the same memory if they are all rows in order."""
    in_order = torch.equal(rows_N, torch.arange(whole.shape[0]))

    def taken(part: Tensor | None) -> Tensor | None:
        return None if part is None else (part if in_order else part[rows_N]).unflatten(0, shape[:-1])

    data, scale = taken(whole.data), taken(whole.scale)
    assert data is not None and scale is not None
    return QuantizedWeight(whole.weight_format, data, scale, taken(whole.low), dtype=whole.dtype)


def stack_rows(parts: Sequence[QuantizedWeight]) -> QuantizedWeight:
    """Stacks the rows of several quantized weights of one kind, [N, I]."""
    if len(parts) == 1:
        return parts[0]
    lows = [part.low for part in parts if part.low is not None]
    data, scale = (torch.cat([getattr(part, name) for part in parts]) for name in ("data", "scale"))
    return QuantizedWeight(parts[0].weight_format, data, scale, torch.cat(lows) if lows else None, dtype=parts[0].dtype)
