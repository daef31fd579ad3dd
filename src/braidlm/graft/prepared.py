"""Graft that is ready to run: the donor, what is replaced in it, and the data, all checked."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from ..api import loading
from ..api.language_model import LanguageModel
from ..errors import InputError
from ..quant.policy import quantized_weights
from ..spec import ModelSpec
from ..train.run_data import RunData, open_data
from .chats import require_chats
from .donors import join_donors
from .layout import Candidates, candidates, hybrid_spec
from .recipe import Recipe


@dataclass(frozen=True)
class Prepared:
    """A recipe with its donors in memory, in the dtype of the run, and what its layout replaces.

    language: the donor whose mixers are replaced: `main`, with blocks of other donors in it where the recipe says so.
    main: the donor that the recipe names first. others: digests of the other donors, by their fields.
    """

    recipe: Recipe
    language: LanguageModel
    found: Candidates
    main: LanguageModel
    others: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def donor_digest(self) -> str:
        """Digest of the main donor's weights."""
        return self.main.network.weights.base_fingerprint()

    @cached_property
    def data(self) -> RunData:
        """Data of the recipe."""
        return open_data(self.recipe.data, self.language.tokenizer, self.language.spec.vocab)

    @cached_property
    def held_out_T(self) -> Tensor:
        """Held-out token ids of the recipe's data, one pack after the other."""
        return torch.cat([torch.zeros(0, dtype=torch.int64), *(pack.ids_T for pack in self.data.eval_packs)])

    @cached_property
    def digests(self) -> dict[str, dict[str, str]]:
        """Digests of the data of phases that have some of their own, by the phase's name."""
        own = {name: phase.data for name, phase in self.recipe.trained.items() if phase.data is not None}
        vocab = self.language.spec.vocab
        return {name: open_data(data, self.language.tokenizer, vocab).made_from for name, data in own.items()}

    @property
    def made_from(self) -> dict[str, str]:
        """Digests of what is named by path."""
        return {"donor": self.donor_digest, **self.others, **self.data.made_from}


def prepare(recipe: Recipe) -> Prepared:
    """Loads the donors and checks the layout and the data; nothing is written."""
    main = loading.load(recipe.donor, dtype=recipe.run.dtype)
    if main.tokenizer is None:
        raise InputError(f"{recipe.donor} has no tokenizer, by which data for it could be read")
    _require_plain(main, recipe.donor)
    main.network.requires_grad_(False)
    language, others = join_donors(recipe, main)
    found = candidates(recipe.layout, language.spec)
    if not found.mixers and not recipe.transplants:
        raise InputError("the layout replaces no block of the donor")
    _require_models(recipe, language.spec, found)
    prepared = Prepared(recipe, language, found, main, others)
    _require_data(prepared)
    return prepared


def _require_plain(main: LanguageModel, name: str) -> None:
    if quantized_weights(main.network):
        raise InputError(
            f"{name} has quantized weights, which cannot be trained; take the model that they were made of, or "
            "one that braid convert has written in plain weights"
        )


def _require_models(recipe: Recipe, donor: ModelSpec, found: Candidates) -> None:
    """Refuses layouts of which the whole or a variant that the probe measures is no model."""
    hybrid_spec(donor, found.mixers, found.mixers, recipe.layout.meta_tokens)
    for index in found.mixers if found.needs_probe else ():
        hybrid_spec(donor, found.mixers, [index], recipe.layout.meta_tokens)


def _require_data(prepared: Prepared) -> None:
    """Refuses data and chats that a later stage would fail on."""
    recipe = prepared.recipe
    if len(prepared.held_out_T) < 2:
        raise InputError(
            "the data hold out no text to measure on; build them with braid data --holdout, and set eval_tokens"
        )
    _ = prepared.digests  # opens the data of phases that have some of their own
    if recipe.chats is not None:
        require_chats(prepared.main, recipe.chats)
