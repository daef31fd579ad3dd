"""Data of a run: shards opened with the model's tokenizer, their packing, and packed sequences for evaluations."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import InputError
from ..text.tokenizer import Tokenizer
from .config import Component, Data
from .data.documents import Documents
from .data.mixture import Mixture
from .data.pack import Pack, Packing
from .data.shards import Apart, Shards, find_source
from .data.stream import Stream
from .data.whole import Whole

# Evaluations read held-out documents in packed sequences of about this many tokens.
EVAL_PACK = 4096


class RunData(NamedTuple):
    """Data of a run.

    packing: documents to train on. eval_packs: held-out documents. eval_files: `data.eval_files`, by name. made_from:
    digests of the shards by the fields that name them. sources: names of all sources.
    """

    packing: Packing
    eval_packs: list[Pack]
    eval_files: dict[str, list[Pack]]
    made_from: dict[str, str]
    sources: list[str]


def open_data(data: Data, tokenizer: Tokenizer, eval_pack: int = EVAL_PACK) -> RunData:
    """Opens the shards that a configuration names; `InputError` for those of another tokenizer.

    `eval_pack` is the number of tokens of the packed sequences that are evaluated. Of a mixture the held-out documents
    of each component are evaluated, `data.eval_tokens` of each.
    """
    components = data.components
    opened = [Shards(Path(component.shards), tokenizer) for component in components]
    apart = _apart(opened, data.eval_files)
    _require_apart(opened, apart)
    packings = [
        _packing(component, part.training, data.seed) for component, part in zip(components, apart, strict=True)
    ]
    packs = [pack for shards in opened for pack in _packs(shards.holdout, data.eval_tokens, eval_pack)]
    files = {
        name: list(_packs(documents, data.eval_tokens, eval_pack))
        for part in apart
        for name, documents in part.files.items()
    }
    digests = (shards.manifest.digest() for shards in opened)
    sources = [source.name for shards in opened for source in shards.manifest.sources]
    packing = Mixture(packings, [component.share for component in components]) if data.mixture else packings[0]
    return RunData(packing, packs, files, dict(zip(data.shards_fields, digests, strict=True)), sources)


def _apart(opened: Sequence[Shards], names: Sequence[str]) -> list[Apart]:
    """Each component with what is kept apart of it."""
    sources = [(shards, source.name) for shards in opened for source in shards.manifest.sources]
    owners = {name: sources[find_source(name, [source for _, source in sources])][0] for name in names}
    return [shards.apart([name for name, owner in owners.items() if owner is shards]) for shards in opened]


def _require_apart(opened: Sequence[Shards], apart: Sequence[Apart]) -> None:
    """`InputError` if a component trains on a document that another one evaluates."""
    for own, part in zip(opened, apart, strict=True):
        evaluated = (own.holdout, *part.files.values())
        hash_N = np.concatenate([own.hashes(documents) for documents in evaluated])
        for other, others in zip(opened, apart, strict=True):
            same_N = np.isin(other.hashes(others.training), hash_N)
            if other is not own and same_N.any():
                number = int(others.training.numbers_N[np.argmax(same_N)])
                raise InputError(
                    f"{others.training.where(number)} in {other.directory} is the same text as a document of "
                    f"{own.directory} that is evaluated, and would be trained on; leave it out of the data"
                )


def _packing(component: Component, documents: Documents, seed: int) -> Packing:
    if component.packing == "stream":
        return Stream(documents, seed)
    return Whole(documents, seed, component.on_too_long)


def _packs(documents: Documents, eval_tokens: int, pack: int) -> Iterator[Pack]:
    """Packed sequences of the first tokens of documents that are not trained on."""
    if not len(documents):
        return
    tokens = min(eval_tokens, documents.tokens)
    steps = max(1, tokens // pack)
    stage = Stream(documents, 0).stage(0, 1, min(tokens, pack), steps)
    for step in range(steps):
        yield stage.pack(step, 0)
