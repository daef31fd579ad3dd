"""Graft that is ready to run: the donor, what is replaced in it, and the data, all checked."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..api import loading
from ..api.language_model import LanguageModel
from ..errors import InputError
from ..train.config import Config
from ..train.data.pack import Pack, Packing
from ..train.data.shards import Shards
from ..train.run import _packing, _packs
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
    def shards(self) -> Shards:
        """Data of the recipe."""
        assert self.language.tokenizer is not None
        return Shards(Path(self.recipe.data.shards), self.language.tokenizer)

    def packing(self, config: Config) -> Packing:
        """Documents that a stage trains on."""
        return _packing(config, self._apart(config).training)

    def held_out(self, config: Config) -> list[Pack]:
        """Held-out documents in packed sequences."""
        return list(_packs(self.shards.holdout, config))

    def made_from(self) -> dict[str, str]:
        """Digests of what is named by path."""
        return {"donor": self.donor_digest, "data.shards": self.shards.manifest.digest()}

    def _apart(self, config: Config) -> Any:
        return self.shards.apart(config.data.eval_files)


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
