"""The order for instruction tuning: whole documents, as many in a pack as fit.

Documents come in the stream's permutations. A pack is filled until the next document does not fit (next fit) or the
epoch ends, so packs have different numbers of tokens. A stage's packs go to its lanes in turn.

Legend: N = documents.
"""

import functools
from typing import Literal, NamedTuple

import numpy as np

from ...errors import InputError
from .documents import Documents, Piece
from .pack import Pack
from .permutation import permutation
from .stream import check_documents, check_place, check_stage

TooLong = Literal["error", "skip", "truncate"]


class Whole:
    """Whole documents by a seed. A position counts documents: epoch * N + place in the epoch.

    `too_long` says what is done with documents that are longer than a pack: they are an error, left out, or cut.
    """

    def __init__(self, documents: Documents, seed: int, too_long: TooLong = "error") -> None:
        check_documents(documents)
        self.documents, self.seed, self.too_long = documents, seed, too_long

    def stage(self, begin: int, lanes: int, tokens: int, steps: int) -> "WholeStage":
        """`steps` * `lanes` packs of up to `tokens` tokens, from a position on."""
        check_stage(begin, lanes, tokens, steps)
        return WholeStage(self, begin, lanes, tokens, steps)


class _Packs(NamedTuple):
    """Packs of one epoch: the documents that are taken, their places in the permutation, and the packs' bounds."""

    places: np.ndarray
    order: np.ndarray
    bounds: np.ndarray


class WholeStage:
    """`too_long` counts the documents of an epoch that were left out or cut."""

    def __init__(self, whole: Whole, begin: int, lanes: int, tokens: int, steps: int) -> None:
        self._documents, self._seed = whole.documents, whole.seed
        self._begin, self._lanes, self._tokens, self._steps = begin, lanes, tokens, steps
        long_N = self._documents.lengths_N > tokens
        self.too_long = int(long_N.sum())
        if self.too_long and whole.too_long == "error":
            self._refuse(int(np.argmax(long_N)))
        skipped = whole.too_long == "skip"
        if skipped and self.too_long == len(self._documents):
            raise InputError(f"every document is longer than a pack of {tokens} tokens, so that none is left")
        self._taken_N = np.where(long_N & skipped, 0, np.minimum(self._documents.lengths_N, tokens))
        self._packs = functools.lru_cache(2)(self._make_packs)
        self._firsts = [0]  # the number of the first pack of each epoch from the stage's first on

    @property
    def end(self) -> int:
        """The position at which the next stage begins: after the last document of the last pack."""
        epoch, pack = self._find(self._steps * self._lanes - 1)
        places, _, bounds = self._packs(epoch)
        return epoch * len(self._documents) + int(places[bounds[pack + 1] - 1]) + 1

    def pack(self, step: int, lane: int) -> Pack:
        """The pack of one step and lane."""
        check_place(step, lane, self._steps, self._lanes)
        epoch, pack = self._find(step * self._lanes + lane)
        _, order, bounds = self._packs(epoch)
        chosen = order[bounds[pack] : bounds[pack + 1]]
        return self._documents.pack((Piece(int(i), 0, int(self._taken_N[i])) for i in chosen), continues=False)

    def _refuse(self, document: int) -> None:
        number = int(self._documents.numbers_N[document])
        raise InputError(
            f"{self._documents.where(number)} is a document of {self._documents.lengths_N[document]} tokens, "
            f"but a pack has at most {self._tokens}; make packs longer, or choose to skip or truncate such documents"
        )

    def _find(self, number: int) -> tuple[int, int]:
        """Epoch and number in it of the pack `number` of this stage."""
        first_epoch = self._begin // len(self._documents)
        while self._firsts[-1] <= number:
            packs = self._packs(first_epoch + len(self._firsts) - 1)
            self._firsts.append(self._firsts[-1] + len(packs.bounds) - 1)
        epoch = int(np.searchsorted(self._firsts, number, side="right")) - 1
        return first_epoch + epoch, number - self._firsts[epoch]

    def _make_packs(self, epoch: int) -> _Packs:
        order_N = permutation(len(self._documents), self._seed, epoch)
        taken = self._taken_N[order_N] > 0
        first_epoch, first = divmod(self._begin, len(self._documents))
        if epoch == first_epoch:
            taken[:first] = False
        places = np.flatnonzero(taken)
        order = order_N[places]
        ends = np.cumsum(self._taken_N[order])
        bounds = [0]
        while bounds[-1] < len(order):
            before = ends[bounds[-1] - 1] if bounds[-1] else 0
            bounds.append(int(np.searchsorted(ends, before + self._tokens, side="right")))
        return _Packs(places, order, np.array(bounds))
