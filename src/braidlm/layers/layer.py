"""Base classes of layers: what models, optimizers and quantization may ask of a layer, without knowing its kind.

A layer of a new kind says as class attributes what is special about its parameters; what it does not mention is a plain
matrix, gain or bias.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..ops.plan import PlanBuilder
from ..state.batch import BatchLayerState
from .batch import Batch

# Makes random values of a parameter of this shape, in float32 on the CPU.
Initialiser = Callable[[torch.Size, torch.Generator], Tensor]


def initialisers(**by_parameter: Initialiser) -> Mapping[str, Initialiser]:
    """Initialisers by the parameter's name, as layers declare them."""
    return MappingProxyType(by_parameter)


class Layer(nn.Module):
    """Base of everything with parameters of its own.

    FP32_PARAMETERS: parameters that stay in float32 whatever the dtype of the weights; weight decay leaves them alone.
    QUANTIZABLE: parameters that quantization takes; UNQUANTIZED: layers inside this one whose weights it leaves alone.
    INITIAL: random values where they are not the usual ones (`model.initialisation`); TRAINING_INITIAL: likewise, for
    what training begins with. UNIFORM: training begins with weights that are uniform within 1/sqrt(inputs), here and in
    layers inside. RESIDUAL_OUTPUTS: layers or parameters whose results are added to the residual stream.
    """

    FP32_PARAMETERS: ClassVar[tuple[str, ...]] = ()
    QUANTIZABLE: ClassVar[tuple[str, ...]] = ()
    UNQUANTIZED: ClassVar[tuple[str, ...]] = ()
    INITIAL: ClassVar[Mapping[str, Initialiser]] = initialisers()
    TRAINING_INITIAL: ClassVar[Mapping[str, Initialiser]] = initialisers()
    UNIFORM: ClassVar[bool] = False
    RESIDUAL_OUTPUTS: ClassVar[tuple[str, ...]] = ()

    def project_parameters(self) -> None:
        """Projects parameters back into the range that they must lie in, after a step of an optimizer."""


class Mixer(Layer):
    """Base of sequence mixers, made of their spec, which they keep, and that of the model."""

    spec: Any

    def forward(self, x_TD: Tensor, state: BatchLayerState, batch: Batch) -> tuple[Tensor, BatchLayerState]:
        """Mixes packed rows, [T, D] -> [T, D]; returns the state after the new tokens too. Pure, differentiable."""
        raise NotImplementedError

    def build_step(self, builder: PlanBuilder, source: Any, scale: float) -> None:
        """Adds the decode step to a plan: from input `source`, `scale` times the output to the residual stream."""
        raise NotImplementedError


class ModalMixer(Mixer):
    """Base of mixers that convolve with filters given as modes, of which `implicit` filters may take the place.

    `poles` and `residues` are [filters, modes, 2]: real and imaginary parts. Those filters are a network of the
    position, for training (see `train.implicit`).
    """

    poles: nn.Parameter
    residues: nn.Parameter
    implicit: Any


class BranchedMixer(Mixer):
    """Base of mixers with attention beside a recurrence.

    Where `attention_dropped` is set, the attention adds nothing to a pass in training (see `train.branch_dropout`); its
    state goes on as ever.
    """

    attention_dropped = False


class FeedForward(Layer):
    """Base of feed-forward layers, made of their spec and the model's width."""

    def forward(self, x_TD: Tensor) -> Tensor:
        """Maps each token, [T, D] -> [T, D]. Pure, differentiable."""
        raise NotImplementedError

    def build_step(self, builder: PlanBuilder, source: Any, scale: float) -> None:
        """Adds the decode step to a plan: from input `source`, `scale` times the output to the residual stream."""
        raise NotImplementedError


class RoutedFeedForward(FeedForward):
    """Base of mixtures of experts: a token uses the `top_k` experts of its largest router logits.

    `router` is [X, D], `gate_up` [X, 2F, D] (an expert's gate rows, then its up rows), `down` [X, D, F]; each may have
    an adapter beside it.
    """

    top_k: int
    router: nn.Parameter
    gate_up: Any
    down: Any
    router_adapter: Any
    gate_up_adapter: Any
    down_adapter: Any
