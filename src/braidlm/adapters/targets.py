"""Weights of a model that adapters can change, and which of these a list of modules means."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from torch import nn

from .. import families
from ..checkpoints.binding import bind
from ..errors import InputError, SpecError
from ..families import Family, Rule
from ..families.names import rename
from ..layers import RoutedFeedForward
from ..layers.linear import Embedding, Linear, Weight
from ..model.footprint import skeleton
from ..model.model import Model
from ..system.suggest import did_you_mean
from .config import ALL, Lora
from .low_rank import LowRank, OnEmbedding, OnExperts, OnLinear, OnRouter

# What "all" leaves out.
_BY_NAME_ONLY = ("embed", "head", "router")


class TargetWeight(NamedTuple):
    """One weight that an adapter can change. name: of the weight without ".weight", such as "blocks.0.mixer.in_proj".

    holder: the module that has the weight as `weight_name` and the adapter as `adapter_name`. share: the part of
    it that one token's product reads.
    """

    name: str
    holder: nn.Module
    weight_name: str
    adapter_name: str
    kind: type[LowRank]
    share: float = 1.0

    @property
    def leaf(self) -> str:
        """Last part of the name, such as "in_proj"."""
        return self.name.rpartition(".")[2]

    @property
    def full_name(self) -> str:
        """Name of the weight among the model's weights."""
        return f"{self.name}.weight" if self.weight_name == "weight" else self.name

    @property
    def weight(self) -> Weight:
        """Weight that an adapter here changes."""
        weight: Weight = getattr(self.holder, self.weight_name)
        return weight

    @property
    def adapter(self) -> LowRank | None:
        """Adapter attached here, or None."""
        adapter: LowRank | None = getattr(self.holder, self.adapter_name)
        return adapter

    def attach(self, adapter: LowRank | None) -> None:
        """Puts an adapter here, or takes it away."""
        setattr(self.holder, self.adapter_name, adapter)


def target_weights(model: Model) -> Iterator[TargetWeight]:
    """All weights of a model that adapters can change, in the model's order."""
    for name, module in model.named_modules():
        if isinstance(module, Linear):
            yield TargetWeight(name, module, "weight", "adapter", OnLinear)
        elif isinstance(module, Embedding):
            yield TargetWeight(name, module, "weight", "adapter", OnEmbedding, share=1 / model.spec.vocab)
        elif isinstance(module, RoutedFeedForward):
            used = module.top_k / module.router.shape[0]
            yield TargetWeight(f"{name}.router", module, "router", "router_adapter", OnRouter)
            for part in ("gate_up", "down"):
                yield TargetWeight(f"{name}.{part}", module, part, f"{part}_adapter", OnExperts, share=used)


class Group(NamedTuple):
    """Targets that lie stacked by rows in one published weight, or one target alone."""

    source: str  # the published weight's name, in memory
    targets: tuple[TargetWeight, ...]
    rule: Rule


def target_groups(model: Model, format: str | None = None) -> list[Group]:
    """Groups of all targets, under the published names of `format`, or of the first format that can express the model.

    Without a published format the names are the model's.
    """
    found = {target.full_name: target for target in target_weights(model)}
    family = _family(model, format)
    if family is None:
        return [Group(name, (target,), rename(name, name)) for name, target in found.items()]
    shapes = {name: weight.shape for name, weight in skeleton(model.spec).named_parameters()}
    bound = bind(family.names(model.spec), shapes, len(model.spec.blocks))
    return [
        Group(family.in_memory(entry.source[0]), tuple(found[name] for name in entry.target), entry.rule)
        for entry in bound
        if set(entry.target) <= set(found)
    ]


def _family(model: Model, format: str | None) -> Family | None:
    # The original formats name modules that nobody but their own code has.
    preferred = None if format is None or format.endswith("-original") else format
    try:
        return families.for_spec(model.spec, preferred)[0]
    except SpecError:
        return None


def chosen_targets(groups: Sequence[Group], config: Lora) -> list[TargetWeight]:
    """Targets that the configured modules mean; `InputError` for one that means none, or one that cannot be adapted."""
    everything = [target for group in groups for target in group.targets]
    named = [(target, (target.name, module_of(group.source))) for group in groups for target in group.targets]
    found: set[str] = set()
    for asked in config.target_modules:
        if asked == ALL:
            meant = {target.name for target in everything if target.leaf not in _BY_NAME_ONLY}
        else:
            meant = {target.name for target, names in named if any(f".{name}".endswith(f".{asked}") for name in names)}
        if not meant:
            raise InputError(f"the target {asked!r} is no projection of this model{_instead(asked, groups)}")
        found |= meant
    chosen = [target for target in everything if target.name in found]
    without = sorted({target.leaf for target in chosen if target.kind is not OnLinear})
    if config.dora and without:
        raise InputError(
            f"dora cannot be on {', '.join(without)}, which are no plain projections; name other targets, or leave it"
        )
    return chosen


def module_of(weight: str) -> str:
    """Module that a weight's published name belongs to, as targets name it."""
    return weight.removesuffix(".weight")


def _instead(target: str, groups: Sequence[Group]) -> str:
    if target.rpartition(".")[2] in ("conv", "conv1d", "short_filter_weight"):
        return ": a depthwise convolution has a filter of a few numbers a channel, which no low rank makes smaller"
    names = {target.leaf for group in groups for target in group.targets}
    published = {module_of(group.source).rpartition(".")[2] for group in groups}
    return f"; there are {', '.join(sorted(names | published))}{did_you_mean(target, names | published)}"
