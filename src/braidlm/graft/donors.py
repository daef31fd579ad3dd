"""Several donors in one: blocks of other models in the place of blocks of the main donor.

The rest of a graft takes the composite for its donor: layouts replace its mixers, and new mixers are aligned with its
blocks. Answers and the distributions that the graft is distilled from are those of the main donor.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch

from ..api import loading
from ..api.language_model import LanguageModel
from ..errors import InputError, SpecError
from ..model.assign import assign
from ..model.footprint import parameter_dtypes, skeleton
from ..model.model import Model
from ..spec import Block, ModelSpec, attention_of
from ..text.tokenizer import same_tokenizer
from ..train.data.pack import Pack
from ..train.run_data import open_data
from .blocks import parse_blocks
from .bridge import Bridge, fitted_bridge, folded, identity_bridge, plain, record
from .recipe import Recipe
from .transplants import Transplant

_BRIDGED = "take a model alike, or set bridge = true in the transplant for projections in between that are trained"


class Joined(NamedTuple):
    """Main donor with blocks of others in it, and the digests of the others, by their fields in the recipe."""

    language: LanguageModel
    digests: dict[str, str]


class _Place(NamedTuple):
    """Block of the main donor, and the block of another donor that takes its place."""

    block: int
    source: int
    transplant: Transplant

    @property
    def name(self) -> str:
        """The block that comes, in words."""
        return f"block {self.source} of {self.transplant.donor}"

    def refused(self, why: str) -> InputError:
        """Error that says why the block cannot come."""
        return InputError(f"{self.name} cannot take the place of block {self.block} of the donor: {why}")


def join_donors(recipe: Recipe, main: LanguageModel) -> Joined:
    """Composite of the donors of a recipe; without transplants the main donor itself. Nothing is written.

    `InputError` names the first block that does not fit, and both numbers where sizes differ.
    """
    if not recipe.transplants:
        return Joined(main, {})
    _check_room(recipe, main.spec)
    specs, digests = list(main.spec.blocks), {}
    weights: dict[int, Mapping[str, torch.Tensor]] = {}
    for number, donor in enumerate(recipe.donors):
        other = loading.load(donor.model, dtype=recipe.run.dtype)
        digests[f"donors.{number}.model"] = other.network.weights.base_fingerprint()
        places = _places(recipe, donor.name, main.spec, other.spec)
        for place in places:
            _check(place, main, other)
        for place in places:
            weights[place.block] = _weights(place, recipe, main, other)
            specs[place.block] = other.spec.blocks[place.source]
    network = _composite(main.network, _spec(main.spec, specs), weights, recipe.run.dtype)
    return Joined(LanguageModel(network, main.tokenizer, main.origin, ops=main.ops), digests)


def _check_room(recipe: Recipe, main: ModelSpec) -> None:
    """Raises `InputError` if a block makes room twice, or owns the keys and values of one that stays."""
    taken: dict[int, str] = {}
    for number, transplant in enumerate(recipe.transplants):
        for index in parse_blocks(transplant.blocks, len(main.blocks), f"transplants.{number}.blocks"):
            if index in taken:
                raise InputError(f"transplants give block {index} of the donor twice; name it in one of them")
            taken[index] = transplant.donor
    for index, block in enumerate(main.blocks):
        attention = attention_of(block.mixer)
        owner = None if attention is None else attention.kv_from
        if index not in taken and owner is not None and owner in taken:
            raise InputError(
                f"block {index} of the donor uses keys and values of block {owner}, whose place a block of "
                f"{taken[owner]} takes; transplant both or neither"
            )


def _places(recipe: Recipe, name: str, main: ModelSpec, other: ModelSpec) -> list[_Place]:
    """Blocks that a donor gives, by the transplants that name it."""
    places = []
    for number, transplant in enumerate(recipe.transplants):
        if transplant.donor == name:
            field = f"transplants.{number}"
            blocks = parse_blocks(transplant.blocks, len(main.blocks), f"{field}.blocks")
            sources = parse_blocks(transplant.donor_blocks, len(other.blocks), f"{field}.donor_blocks")
            if len(blocks) != len(sources):
                raise InputError(
                    f"{field}.blocks names {len(blocks)} blocks, but {field}.donor_blocks {len(sources)}; each needs "
                    "the one that takes its place"
                )
            places += [_Place(*pair, transplant) for pair in zip(blocks, sources, strict=True)]
    return places


def _check(place: _Place, main: LanguageModel, other: LanguageModel) -> None:
    """Raises `InputError` if a block makes no sense in the main donor, or only behind a bridge not asked for."""
    attention = attention_of(other.spec.blocks[place.source].mixer)
    if attention is not None and attention.kv_from is not None:
        raise place.refused(f"its keys and values are those of block {attention.kv_from}; take another block")
    here, there = main.spec, other.spec
    if here.meta_tokens != there.meta_tokens:
        raise place.refused(
            f"its model has {there.meta_tokens} meta tokens, but the donor {here.meta_tokens}; take a model with as "
            "many"
        )
    for what, wanted, found in (
        ("width", here.width, there.width),
        ("vocabulary", here.vocab, there.vocab),
        ("norm", here.norm, there.norm),
    ):
        if wanted != found and not place.transplant.bridge:
            raise place.refused(f"its model has a {what} of {found}, but the donor of {wanted}; {_BRIDGED}")
    if not (place.transplant.bridge or _read_alike(main, other)):
        raise place.refused(f"its model has not the donor's tokenizer; {_BRIDGED}")


def _read_alike(main: LanguageModel, other: LanguageModel) -> bool:
    """Whether a text is the same tokens for both."""
    if main.tokenizer is None or main.spec.vocab != other.spec.vocab:
        return False
    return same_tokenizer(main.tokenizer, other.tokenizer)


def _weights(place: _Place, recipe: Recipe, main: LanguageModel, other: LanguageModel) -> Mapping[str, torch.Tensor]:
    """Weights of a block, by name, as they are in the composite."""
    block, spec = other.network.blocks[place.source], other.spec
    if place.transplant.bridge:
        bridge = _bridge(place, recipe, main, other)
        return folded(block, spec.blocks[place.source], spec, bridge, place.name)
    alone = skeleton(replace(spec, blocks=(spec.blocks[place.source],)))
    return {name: plain(block, name) for name, _ in alone.blocks[0].named_parameters()}


def _bridge(place: _Place, recipe: Recipe, main: LanguageModel, other: LanguageModel) -> Bridge:
    """Bridge of a block, fitted on text that is trained on where both models read the same tokens."""
    if not _read_alike(main, other):
        return identity_bridge(main.spec.width, other.spec.width)
    packs = _text(recipe, main, place.transplant.fit_tokens)
    received, own = record(main.network, packs, place.block), record(other.network, packs, place.source)
    return fitted_bridge(received, own, (main.spec.norm, other.spec.norm), place.transplant.ridge)


def _text(recipe: Recipe, main: LanguageModel, tokens: int) -> list[Pack]:
    """Packed sequences of the first text that the alignment trains on, at least as many tokens."""
    length = recipe.align.stages[0].seq_len
    steps = -(-tokens // length)
    stage = open_data(recipe.data, main.tokenizer, main.spec.vocab).packing.stage(0, 1, length, steps)
    return [stage.pack(step, 0) for step in range(steps)]


def _spec(main: ModelSpec, blocks: Sequence[Block]) -> ModelSpec:
    try:
        return replace(main, blocks=tuple(blocks))
    except SpecError as error:
        raise InputError(f"the transplants make no model: {error}") from None


def _composite(main: Model, spec: ModelSpec, weights: Mapping[int, Mapping[str, torch.Tensor]], dtype: str) -> Model:
    """Model of `spec` with the modules of the main donor, but for the blocks of `weights`."""
    made = skeleton(spec)
    dtypes = parameter_dtypes(made, getattr(torch, dtype))
    for index, block in weights.items():
        for name, weight in block.items():
            assign(made.blocks[index], name, weight.to(dtypes[f"blocks.{index}.{name}"]))
    for name in ("embed", "norm", "head", "prefix", "compute_dtype"):
        setattr(made, name, getattr(main, name))
    for index in set(range(len(spec.blocks))) - set(weights):
        made.blocks[index] = main.blocks[index]
    return made.requires_grad_(False).eval()
