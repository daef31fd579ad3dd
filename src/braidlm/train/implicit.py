"""Implicit Hyena filters, a small network of the position, for training; modes are fitted to them at its end.

A filter h_t = window(t) MLP(encoding(t)) can take any form, where a sum of few modes cannot, but it has no state: it
convolves whole documents, and nothing can be written with it token by token (Poli et al. 2023, section 3.3). Modes
fitted to it can (Massaroli et al. 2023, section 3).

Legend: T = packed tokens, L = tokens of a row, F = filters, D = width, M = modes.
"""

import itertools
import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..layers.layer import Layer, ModalMixer
from ..layers.linear import empty
from ..model.model import Model
from ..ops import Segments
from ..ops.gated_conv.reference import convolved
from ..ops.segments import over_rows
from .modal import Modes, fit

_BANDS, _HIDDEN, _LAYERS = 2, 64, 3
# The windows of the filters fall to a hundredth after 0.3 to 1.5 of the whole length.
_FALL, _FASTEST, _SLOWEST = 0.01, 0.3, 1.5


class ImplicitFilters(Layer):
    """Implicit filters of one Hyena block, over `length` positions. Their parameters do not decay (`optim.groups`)."""

    FP32_PARAMETERS: ClassVar[tuple[str, ...]] = ("last", *(f"weights.{layer}" for layer in range(_LAYERS)))

    def __init__(self, filters: int, length: int) -> None:
        super().__init__()
        self.length = length
        sizes = [1 + 2 * _BANDS, *[_HIDDEN] * _LAYERS]
        self.weights = nn.ParameterList(empty(out, into) for into, out in itertools.pairwise(sizes))
        self.biases = nn.ParameterList(empty(out) for out in sizes[1:])
        self.frequencies = nn.ParameterList(empty(out) for out in sizes[1:])
        self.last = empty(filters, _HIDDEN)

    def initialise(self, generator: torch.Generator, frequency: float = 1.0) -> None:
        """Fills the weights, uniform within 1/sqrt(inputs), and the frequencies of the sines."""
        for weight in (*self.weights, self.last):
            bound = 1 / math.sqrt(weight.shape[1])
            weight.data = torch.rand(weight.shape, generator=generator) * (2 * bound) - bound
        for bias, own in zip(self.biases, self.frequencies, strict=True):
            bias.data, own.data = torch.zeros(bias.shape), torch.full(own.shape, frequency)

    def filters(self, length: int) -> Tensor:
        """Filters h of the first `length` positions, [F, L] in float32."""
        device = self.last.device
        time_L = torch.arange(length, device=device) / self.length
        bands_B = torch.linspace(1e-4, _BANDS - 1, _BANDS, device=device)
        angles_LB = 2 * math.pi * time_L[:, None] * bands_B
        x = torch.cat([time_L[:, None], angles_LB.cos(), -angles_LB.sin()], 1)
        for weight, bias, frequency in zip(self.weights, self.biases, self.frequencies, strict=True):
            x = torch.sin(frequency * (x @ weight.t() + bias))
        steepness_F = -math.log(_FALL) / torch.linspace(_SLOWEST, _FASTEST, len(self.last), device=device)
        return (self.last @ x.t()) * (-steepness_F[:, None] * time_L).exp()

    def forward(self, u_TD: Tensor, gate_TD: Tensor, d_D: Tensor, segments: Segments) -> Tensor:
        """Gated convolution gate (h * u + d u) over each row, [T, D] in float32."""
        longest = max(segments.lengths)
        if longest > self.length:
            raise InputError(f"a row has {longest} tokens, but the implicit filters only {self.length} positions")
        filters_FL = self.filters(longest)
        filters_DL = filters_FL.repeat_interleave(u_TD.shape[1] // len(filters_FL), 0)

        def step(u_RLD: Tensor, gate_RLD: Tensor, nothing_R: Tensor) -> tuple[Tensor, Tensor]:
            y_RLD = convolved(u_RLD.transpose(1, 2), filters_DL[:, : u_RLD.shape[1]]).transpose(1, 2)
            return gate_RLD * y_RLD.addcmul(d_D, u_RLD), nothing_R

        nothing_R = u_TD.new_empty(len(segments.lengths), 0)
        return over_rows(step, (u_TD.float(), gate_TD.float()), nothing_R, segments).y_T


def attach(model: Model, length: int, seed: int, frequency: float = 1.0) -> None:
    """Gives every Hyena block filters over `length` positions, which are trained instead of its modes.

    `frequency` is that of their sines at the beginning.
    """
    mixers = [module for module in model.modules() if isinstance(module, ModalMixer)]
    if not mixers:
        raise InputError('model.filters="implicit" is for Hyena blocks, of which the model has none')
    if model.prefix is not None:
        raise InputError(
            'a learned prefix leaves a state, which implicit filters cannot use; set model.filters="modal"'
        )
    for number, mixer in enumerate(mixers):
        mixer.implicit = ImplicitFilters(len(mixer.poles), length)
        mixer.implicit.initialise(torch.Generator().manual_seed(hash((seed, number))), frequency)
        mixer.implicit.to(model.device)
        mixer.poles.requires_grad_(False)
        mixer.residues.requires_grad_(False)


def fit_modes(model: Model, weights: dict[str, Any]) -> float:
    """Puts fitted modes in place of the implicit filters among `weights`, whole and by name; the error of the fit.

    That is the norm of what modes leave of the filters over the norm of the filters.
    """
    found = {name: fit(filters_FL, modes) for name, filters_FL, modes in take_filters(model, weights)}
    for name, modes in found.items():
        put_modes(weights, name, modes)
    lost = sum(float(modes.error_F.square().sum()) for modes in found.values())
    whole = sum(float(modes.norm_F.square().sum()) for modes in found.values())
    return math.sqrt(lost / whole) if whole else 0.0


def take_filters(model: Model, weights: dict[str, Any]) -> list[tuple[str, Tensor, int]]:
    """Takes implicit filters out of `weights`: names of their mixers, filters [F, L], modes that the model has."""
    found = []
    for name, mixer in model.named_modules():
        if not isinstance(mixer, ModalMixer) or mixer.implicit is None:
            continue
        inside = f"{name}.implicit."
        own = {key.removeprefix(inside): weights.pop(key) for key in list(weights) if key.startswith(inside)}
        made = ImplicitFilters(len(mixer.poles), mixer.implicit.length)
        made.load_state_dict(own)
        with torch.no_grad():
            found.append((name, made.filters(made.length), mixer.poles.shape[1]))
    return found


def put_modes(weights: dict[str, Any], name: str, modes: Modes) -> None:
    """Makes modes those of a mixer among `weights`; their free first tap is added to what its channels pass on."""
    weights[f"{name}.poles"], weights[f"{name}.residues"] = map(torch.view_as_real, (modes.poles_FM, modes.residues_FM))
    d_D = weights[f"{name}.d"]
    weights[f"{name}.d"] = d_D + modes.direct_F.repeat_interleave(len(d_D) // len(modes.direct_F)).to(d_D.dtype)
