"""Probe, stage 2 of a graft: what each block loses when it alone is replaced, and wins when it alone is kept.

Perplexity does not see recall, which few blocks carry, and other ones ("HALO", arXiv 2601.22156), so both
are measured.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from torch import Tensor

from ..eval.divergence import divergence
from ..eval.item import Item
from ..eval.reader import RecordedReader
from ..eval.recall import recall
from ..layers.layer import Mixer as MixerLayer
from ..model.model import Model
from ..system.settings import Setting, check_settings
from .compose import compose
from .finished import finish, finished
from .layout import Candidates, hybrid_spec


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Settings of the probe."""

    tokens: Annotated[int, Setting("Number of held-out tokens that every variant reads.", least=2)] = 4096
    seq_len: Annotated[int, Setting("Length of their sequences in tokens.", least=2)] = 1024
    haystacks: Annotated[
        int, Setting("Number of haystacks that every variant is asked about; 0 for none.", least=0)
    ] = 4
    haystack_tokens: Annotated[int, Setting("Length of a haystack in tokens.", least=64)] = 512
    kept: Annotated[bool, Setting("Whether blocks are also measured as the only one that is kept.")] = False
    recall_weight: Annotated[
        float, Setting("Weight of recall beside divergence in the choice of blocks, from 0 to 1.", least=0, most=1)
    ] = 0.5

    def __post_init__(self) -> None:
        check_settings(self, "probe")


class Loss(NamedTuple):
    """What a variant loses against the donor.

    divergence: KL(donor || variant) in nats a token. perplexity: relative rise. recall: nats a token of the answers
    that it needs more than the donor.
    """

    divergence: float
    perplexity: float
    recall: float


class Prober:
    """Measurements of variants of a donor on the same text and questions."""

    def __init__(self, donor: Model, texts: Sequence[Tensor], items: Sequence[Item]) -> None:
        self._donor, self._texts, self._items = RecordedReader(donor), texts, items
        self._recall = recall(donor, items).whole.nats if items else 0.0

    def measure(self, variant: Model) -> Loss:
        """What a variant loses."""
        found = divergence(variant, self._donor, self._texts).whole
        lost = recall(variant, self._items).whole.nats - self._recall if self._items else 0.0
        return Loss(found.divergence, found.perplexity / found.reference_perplexity - 1, lost)


def probe(
    prober: Prober,
    donor: Model,
    mixers: Mapping[int, MixerLayer],
    found: Candidates,
    place: Path,
    settings: Mapping[str, Any],
    told: Callable[[str, Loss], None],
    *,
    kept: bool,
) -> dict[str, Loss]:
    """Losses of "all" (every block replaced), of "replaced N" and, with `kept`, of "kept N".

    Each is a file of the directory `place` before the next is begun, with the `settings` of all, so that a probe that
    was killed goes on. `told(name, loss)` is called for each.
    """
    losses: dict[str, Loss] = {}
    for name, replaced in _variants(list(mixers), kept=kept).items():
        part = place / name.replace(" ", "-")
        result = finished(part, settings)
        if result is None:
            spec = hybrid_spec(donor.spec, found.mixers, replaced)
            result = prober.measure(compose(donor, {index: mixers[index] for index in replaced}, spec))._asdict()
            finish(part, settings, result)
        losses[name] = Loss(**result)
        told(name, losses[name])
    return losses


def _variants(blocks: Sequence[int], *, kept: bool) -> dict[str, list[int]]:
    """Blocks that each variant replaces."""
    alone = {f"replaced {index}": [index] for index in blocks}
    rest = {f"kept {index}": [other for other in blocks if other != index] for index in blocks if kept}
    return {"all": list(blocks)} | alone | rest


def scores(losses: Mapping[str, Loss], blocks: Sequence[int], recall_weight: float) -> dict[int, float]:
    """How much each block is worth keeping: its shares of all that blocks lose, in divergence and in recall."""
    alone = [losses[f"replaced {index}"] for index in blocks]
    divergence, recalled = _shares([loss.divergence for loss in alone]), _shares([loss.recall for loss in alone])
    both = zip(divergence, recalled, strict=True)
    return dict(zip(blocks, [(1 - recall_weight) * a + recall_weight * b for a, b in both], strict=True))


def _shares(values: Sequence[float]) -> list[float]:
    """Shares of a sum; negative values count as none."""
    total = sum(max(0.0, value) for value in values)
    return [max(0.0, value) / total if total else 0.0 for value in values]
