"""Data of a run: shards opened with the model's tokenizer, recall tasks, their packing, and what is evaluated."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import InputError
from ..eval.item_maker import ItemMaker
from ..text.tokenizer import Tokenizer
from .config import Component, Data
from .data.documents import Documents
from .data.manifest import Manifest
from .data.mixture import Mixture
from .data.pack import Pack, Packing
from .data.recall import Recall
from .data.shards import Apart, Shards, find_source
from .data.stream import Stream
from .data.whole import Whole

# Evaluations read held-out documents in packed sequences of about this many tokens.
EVAL_PACK = 4096


class RunData(NamedTuple):
    """Data of a run.

    packing: documents to train on. eval_packs: held-out documents. eval_files: `data.eval_files`, by name. made_from:
    digests of the shards by the fields that name them. sources: names of all sources, and recall tasks.
    """

    packing: Packing
    eval_packs: list[Pack]
    eval_files: dict[str, list[Pack]]
    made_from: dict[str, str]
    sources: list[str]


def open_data(data: Data, tokenizer: Tokenizer | None, vocab: int, eval_pack: int = EVAL_PACK) -> RunData:
    """Opens the shards that a configuration names; `InputError` for those of another tokenizer.

    `vocab` is the model's number of token ids, `eval_pack` the number of tokens of the packed sequences that are
    evaluated. Of a mixture the held-out documents of each component are evaluated, `data.eval_tokens` of each.
    """
    components = data.components
    opened = _opened(data, tokenizer)
    apart = dict(zip(opened, _apart(list(opened.values()), data.eval_files), strict=True))
    _require_apart(list(opened.values()), list(apart.values()))
    packings: list[Packing] = []
    packs: list[Pack] = []
    for number, component in enumerate(components):
        if component.task is not None:
            task = Recall(ItemMaker(tokenizer, vocab), component.task)
            packings.append(task)
            packs += task.held_out(eval_pack)
        else:
            packings.append(_packing(component, apart[number].training, data.seed))
            packs += _packs(opened[number].holdout, data.eval_tokens, eval_pack)
    files = {
        name: list(_packs(documents, data.eval_tokens, eval_pack))
        for part in apart.values()
        for name, documents in part.files.items()
    }
    manifests = {data.shards_field(number): shards.manifest for number, shards in opened.items()}
    digests = {field: manifest.digest() for field, manifest in manifests.items()}
    packing = Mixture(packings, [component.share for component in components]) if data.mixture else packings[0]
    return RunData(packing, packs, files, digests, source_names(data, manifests.values()))


def _opened(data: Data, tokenizer: Tokenizer | None) -> dict[int, Shards]:
    """Shards of the components that have some, by the component's number."""
    places = {number: component.shards for number, component in enumerate(data.components) if component.shards}
    if tokenizer is None:
        if places:
            raise InputError("the model has no tokenizer; name one in model.tokenizer, the one that made the shards")
        return {}
    return {number: Shards(Path(place), tokenizer) for number, place in places.items()}


def source_names(data: Data, manifests: Iterable[Manifest]) -> list[str]:
    """Names of the sources of shards, by their manifests, and of recall tasks."""
    sources = [source.name for manifest in manifests for source in manifest.sources]
    return sources + [str(component.task) for component in data.components if component.task is not None]


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
