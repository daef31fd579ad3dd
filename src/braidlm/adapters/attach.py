"""Adapters on a model: attached, detached, merged into its weights and unmerged.

Adapters are modules beside the weights they change, so that whatever runs the model runs them, and whatever trains
the parameters that require gradients trains them alone.
"""

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..layers.linear import Weight
from ..model.assign import assign
from ..model.model import Model
from ..ops.linear.quantized import QuantizedWeight
from .config import Lora
from .low_rank import LowRank, OnEmbedding, make_adapter
from .targets import chosen_targets, target_groups, target_weights


class Kind(NamedTuple):
    """Coverage of one kind of projection by adapters.

    layers: number of projections adapted. trained, whole: parameters of the adapters, of the weights they change.
    share: part of all products of one token that are made with these weights.
    """

    name: str
    layers: int
    trained: int
    whole: int
    share: float


class Adapters:
    """Low-rank adapters of one model: one for each weight that is adapted."""

    def __init__(self, model: Model, config: Lora, format: str | None, sizes: Mapping[str, tuple[int, float]]) -> None:
        """Adapters without values, not put on the model yet.

        `sizes` has rank and scale of each target's adapter; `format` names the published format whose names files get.
        """
        self.model = model
        self.config = config
        self.format = format
        self._targets = [target for target in target_weights(model) if target.name in sizes]
        self._kept: dict[str, Weight] = {}  # weights before they were merged
        self._adapters = {
            p.name: make_adapter(p.kind, p.weight.shape, *sizes[p.name], config.dropout, dora=config.dora)
            for p in self._targets
        }

    @property
    def by_target(self) -> dict[str, LowRank]:
        """Each adapter by the name of its target, such as "blocks.0.mixer.in_proj"."""
        return dict(self._adapters)

    def parameters(self) -> list[nn.Parameter]:
        """Parameters of all adapters, to be trained."""
        return [parameter for adapter in self._adapters.values() for parameter in adapter.parameters()]

    def begin(self, seed: int) -> None:
        """Initialises the adapters, which change nothing yet; values depend on a target's name and the seed."""
        for target in self._targets:
            key = hashlib.sha256(f"{seed} {target.name}".encode()).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(key[:8], "little", signed=True))
            self._adapters[target.name].begin(target.weight, generator)

    def fill(self, values: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Sets the parameters of every adapter, by target and name."""
        for target in self._targets:
            self._adapters[target.name].fill(target.weight, dict(values[target.name]))

    def put_on(self) -> None:
        """Makes the model run with its adapters, which alone require gradients from now on."""
        for target in self._targets:
            if target.adapter is not None:
                raise InputError(f"{target.name} has an adapter already; detach it first")
        freeze(self.model)
        for target in self._targets:
            adapter = self._adapters[target.name]
            target.attach(adapter.train(self.model.training).requires_grad_())

    def onto(self, model: Model) -> None:
        """Puts adapters with the same values on another model over the same weights, for use alone."""
        other = Adapters(model, self.config, self.format, {n: (a.rank, a.scale) for n, a in self._adapters.items()})
        other.fill({name: adapter.state_dict() for name, adapter in self._adapters.items()})
        for target in other._targets:
            target.attach(other._adapters[target.name].eval().requires_grad_(False))

    def detach(self) -> None:
        """Takes the adapters off the model, which is then what it was; they keep their values."""
        self._require_attached()
        for target in self._targets:
            target.attach(None)

    @torch.no_grad()
    def merge(self) -> None:
        """Changes the weights themselves, summed in float32 and rounded once, and detaches the adapters.

        `InputError` if a weight is packed: the sum would be rounded to other steps, and the change lost in them.
        """
        self._require_attached()
        for target in self._targets:
            if isinstance(target.weight, QuantizedWeight):
                raise InputError(
                    f"{target.name} is quantized, and a change merged into its steps would be lost; "
                    "merge into the original weights, or leave the adapter beside them"
                )
            if target.kind is OnEmbedding and self.model.head is None:
                raise InputError(
                    "an embedding that is the head too cannot be merged: its adapter leaves the head as it is"
                )
        for target in self._targets:
            weight = target.weight
            assert isinstance(weight, Tensor)
            self._kept[target.name] = weight
            merged = self._adapters[target.name].merged(weight).to(weight.dtype)
            assign(self.model, target.full_name, merged)
            target.attach(None)

    def unmerge(self) -> None:
        """Puts the weights from before back, bit for bit, and attaches the adapters again."""
        if not self._kept:
            raise InputError("nothing was merged that could be taken out again")
        for target in self._targets:
            setattr(target.holder, target.weight_name, self._kept[target.name])
            target.attach(self._adapters[target.name])
        self._kept = {}

    def coverage(self) -> list[Kind]:
        """Coverage of the model by adapters, by kind of projection, in the model's order."""
        used = {target.name: target.weight.numel() * target.share for target in target_weights(self.model)}
        if self.model.head is None:
            used["head"] = self.model.embed.weight.numel()
        every, kinds = sum(used.values()), dict.fromkeys(target.leaf for target in self._targets)
        return [self._kind(leaf, used, every) for leaf in kinds]

    def _kind(self, leaf: str, used: Mapping[str, float], every: float) -> Kind:
        alike = [target for target in self._targets if target.leaf == leaf]
        trained = sum(p.numel() for target in alike for p in self._adapters[target.name].parameters())
        whole = sum(target.weight.numel() for target in alike)
        return Kind(leaf, len(alike), trained, whole, sum(used[target.name] for target in alike) / every)

    def require_apart(self) -> None:
        """`InputError` while the adapters are merged into the weights."""
        if self._kept:
            raise InputError("the adapters are merged into the weights; unmerge them first")

    def _require_attached(self) -> None:
        if any(target.adapter is not self._adapters[target.name] for target in self._targets):
            raise InputError("these adapters are not attached")


def attach(model: Model, config: Lora, seed: int = 0, format: str | None = None) -> Adapters:
    """Puts new adapters on a model, which computes with them what it did before until they are trained.

    `format` names the published format whose names targets may use. `InputError` for a target that is no projection.
    """
    chosen = chosen_targets(target_groups(model, format), config)
    adapters = Adapters(model, config, format, {target.name: (config.rank, config.scale) for target in chosen})
    adapters.begin(seed)
    adapters.put_on()
    return adapters


def freeze(model: Model) -> None:
    """Freezes all weights of a model; adapters and learned states are left as they are."""
    for _, weight in model.named_weights():
        weight.requires_grad_(False)
