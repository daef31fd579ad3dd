"""Places of a model that can have adapters, and which of these a list of targets means."""

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


class Place(NamedTuple):
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


def places(model: Model) -> Iterator[Place]:
    """All places of a model that can have adapters, in the model's order."""
    for name, module in model.named_modules():
        if isinstance(module, Linear):
            yield Place(name, module, "weight", "adapter", OnLinear)
        elif isinstance(module, Embedding):
            yield Place(name, module, "weight", "adapter", OnEmbedding, share=1 / model.spec.vocab)
        elif isinstance(module, RoutedFeedForward):
            used = module.top_k / module.router.shape[0]
            yield Place(f"{name}.router", module, "router", "router_adapter", OnRouter)
            for part in ("gate_up", "down"):
                yield Place(f"{name}.{part}", module, part, f"{part}_adapter", OnExperts, share=used)


class Group(NamedTuple):
    """Places whose weights lie stacked by rows in one published weight, or one place alone."""

    source: str  # the published weight's name, in memory
    places: tuple[Place, ...]
    rule: Rule


def groups(model: Model, format: str | None = None) -> list[Group]:
    """Groups of all places, under the published names of `format`, or of the first format that can express the model.

    Without a published format the names are the model's.
    """
    found = {place.full_name: place for place in places(model)}
    family = _family(model, format)
    if family is None:
        return [Group(name, (place,), rename(name, name)) for name, place in found.items()]
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


def wanted(groups_: Sequence[Group], config: Lora) -> list[Place]:
    """Places that the targets mean; `InputError` for a target that means none, or one that cannot be adapted."""
    everything = [place for group in groups_ for place in group.places]
    named = [(place, (place.name, module_of(group.source))) for group in groups_ for place in group.places]
    found: set[str] = set()
    for target in config.target_modules:
        if target == ALL:
            meant = {place.name for place in everything if place.leaf not in _BY_NAME_ONLY}
        else:
            meant = {place.name for place, names in named if any(f".{name}".endswith(f".{target}") for name in names)}
        if not meant:
            raise InputError(f"the target {target!r} is no projection of this model{_instead(target, groups_)}")
        found |= meant
    chosen = [place for place in everything if place.name in found]
    without = sorted({place.leaf for place in chosen if place.kind is not OnLinear})
    if config.dora and without:
        raise InputError(
            f"dora cannot be on {', '.join(without)}, which are no plain projections; name other targets, or leave it"
        )
    return chosen


def module_of(weight: str) -> str:
    """Module that a weight's published name belongs to, as targets name it."""
    return weight.removesuffix(".weight")


def _instead(target: str, groups_: Sequence[Group]) -> str:
    if target.rpartition(".")[2] in ("conv", "conv1d", "short_filter_weight"):
        return ": a depthwise convolution has a filter of a few numbers a channel, which no low rank makes smaller"
    names = {place.leaf for group in groups_ for place in group.places}
    published = {module_of(group.source).rpartition(".")[2] for group in groups_}
    return f"; there are {', '.join(sorted(names | published))}{did_you_mean(target, names | published)}"
