"""Graft that is ready to run: the donor, what is replaced in it, and the data, all checked."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from ..api import loading
from ..api.language_model import LanguageModel
from ..errors import InputError
from ..train.run_data import RunData, open_data
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
        assert self.language.tokenizer is not None
        return open_data(self.recipe.data, self.language.tokenizer)

    @property
    def made_from(self) -> dict[str, str]:
        """Digests of what is named by path."""
        return {"donor": self.donor_digest, **self.others, **self.data.made_from}


def prepare(recipe: Recipe) -> Prepared:
    """Loads the donors and checks the layout and the data; nothing is written."""
    main = loading.load(recipe.donor, dtype=recipe.run.dtype)
    if main.tokenizer is None:
        raise InputError(f"{recipe.donor} has no tokenizer, by which data for it could be read")
    main.network.requires_grad_(False)
    language, others = join_donors(recipe, main)
    found = candidates(recipe.layout, language.spec)
    if not found.mixers and not recipe.transplants:
        raise InputError("the layout replaces no block of the donor")
    hybrid_spec(language.spec, found.mixers, found.mixers, recipe.layout.meta_tokens)
    return Prepared(recipe, language, found, main, others)
