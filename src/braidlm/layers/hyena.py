"""Hyena layer of StripedHyena: short filter, gates, long convolution.

Legend: T = packed tokens, D = width, F = filters, M = modes of a filter.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from .. import ops
from .. import spec as specs
from ..errors import InputError
from ..ops.plan import PlanBuilder
from ..state.batch import BatchLayerState
from . import initial_values
from .batch import Batch
from .layer import Initialiser, ModalMixer, initialisers
from .linear import Conv, Linear, empty


class Hyena(ModalMixer):
    """Module of a `specs.Hyena`: [T, D] -> [T, D]. Poles and residues are [F, M, 2]: real and imaginary parts."""

    FP32_PARAMETERS: ClassVar[tuple[str, ...]] = ("poles", "residues", "d")
    INITIAL: ClassVar[Mapping[str, Initialiser]] = initialisers(poles=initial_values.poles, d=initial_values.ones)
    TRAINING_INITIAL: ClassVar[Mapping[str, Initialiser]] = initialisers(residues=initial_values.residues)
    UNIFORM: ClassVar[bool] = True
    RESIDUAL_OUTPUTS: ClassVar[tuple[str, ...]] = ("out_proj",)

    def __init__(self, spec: specs.Hyena, model: specs.ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.in_proj = Linear(model.width, 3 * model.width, bias=True)
        self.conv = Conv(3 * model.width, spec.conv, bias=spec.conv_bias)
        self.poles = empty(spec.filters, spec.d_state, 2)
        self.residues = empty(spec.filters, spec.d_state, 2)
        self.d = empty(model.width)
        self.out_proj = Linear(model.width, model.width, bias=True)
        self.implicit: Any = None

    def forward(self, x_TD: Tensor, state: BatchLayerState, batch: Batch) -> tuple[Tensor, BatchLayerState]:
        """Convolves, gates and projects; returns [T, D] and the state after the new tokens."""
        conv = self.conv(self.in_proj(x_TD), state.recurrent["conv"], batch.segments, silu=False)
        parts_T = conv.y_T.unflatten(-1, (self.spec.heads or 1, 3, -1))  # [T, heads, 3, head size]
        x2, x1, v = (part.flatten(-2) for part in parts_T.unbind(-2))
        if self.implicit is not None:
            if any(batch.starts):
                raise InputError("implicit filters carry no state, so that a sequence must be run in one pass")
            y = self.implicit(x1 * v, x2, self.d, batch.segments)
            return self.out_proj(y.to(x_TD.dtype)), state
        poles, residues = torch.view_as_complex(self.poles), torch.view_as_complex(self.residues)
        long = ops.gated_conv(x1 * v, x2, poles, residues, self.d, state.recurrent["modes"], batch.segments)
        recurrent = {"conv": conv.state_R, "modes": long.state_R}
        snapshots = {"conv": conv.snapshots, "modes": long.snapshots}
        return self.out_proj(long.y_T.to(x_TD.dtype)), replace(state, recurrent=recurrent, snapshots=snapshots)

    @torch.no_grad()
    def project_parameters(self) -> None:
        """Projects the poles onto the unit disc: outside of it a filter grows without end.

        The loss of short sequences would not show it.
        """
        if self.poles.requires_grad:
            local = getattr(self.poles, "to_local", None)  # of weights that are sharded over processes
            part_FM2 = self.poles if local is None else local()
            part_FM2.mul_(part_FM2.norm(dim=-1, keepdim=True).reciprocal().clamp(max=1.0))

    def build_step(self, builder: PlanBuilder, source: Any, scale: float) -> None:
        """Adds the decode step to a plan: from input `source`, `scale` times the output to the residual stream."""
        width = len(self.d)
        projected, filtered = builder.buffer("projected", 3 * width), builder.buffer("filtered", 3 * width)
        y = builder.buffer("convolved", width)
        builder.linear(source, (self.in_proj, projected))
        self.conv.build_step(builder, projected, filtered, silu=False)
        poles, residues = (self._by_channel(t) for t in (self.poles, self.residues))
        state = builder.state("modes", "planes")
        builder.step("gated_conv", filtered, poles, residues, builder.vector(self.d), self.spec.heads or 1, state, y)
        builder.add_to_residual(builder.plain(y, width), self.out_proj, scale)

    def _by_channel(self, modes_FM2: Tensor) -> Tensor:
        """[F, M, 2] -> [2, M, D]: each channel with its filter's modes, channels last."""
        share = len(self.d) // modes_FM2.shape[0]
        return modes_FM2.detach().float().repeat_interleave(share, 0).permute(2, 1, 0).contiguous()
