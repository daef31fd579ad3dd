"""Graft that is ready to run: the donor, what is replaced in it, and the data, all checked."""

from dataclasses import dataclass
from functools import cached_property

from ..api import loading
from ..api.language_model import LanguageModel
from ..errors import InputError
from ..train.run_data import RunData, open_data
from .layout import Candidates, candidates, hybrid_spec
from .recipe import Recipe


@dataclass(frozen=True)
class Prepared:
    """A recipe with its donor in memory, in the dtype of the run, and what its layout replaces."""

    recipe: Recipe
    language: LanguageModel
    found: Candidates

    @cached_property
    def donor_digest(self) -> str:
        """Digest of the donor's weights."""
        return self.language.network.weights.base_fingerprint()

    @cached_property
    def data(self) -> RunData:
        """Data of the recipe."""
        assert self.language.tokenizer is not None
        return open_data(self.recipe.data, self.language.tokenizer)

    @property
    def made_from(self) -> dict[str, str]:
        """Digests of what is named by path."""
        return {"donor": self.donor_digest, **self.data.made_from}


def prepare(recipe: Recipe) -> Prepared:
    """Loads the donor and checks the layout and the data; nothing is written."""
    language = loading.load(recipe.donor, dtype=recipe.run.dtype)
    if language.tokenizer is None:
        raise InputError(f"{recipe.donor} has no tokenizer, by which data for it could be read")
    language.network.requires_grad_(False)
    found = candidates(recipe.layout, language.spec)
    if not found.mixers:
        raise InputError("the layout replaces no block of the donor")
    hybrid_spec(language.spec, found.mixers, found.mixers, recipe.layout.meta_tokens)
    return Prepared(recipe, language, found)
