"""Packing for instruction tuning: whole documents, as many in a sequence as fit.

Documents come in the stream's permutations. A sequence is filled until the next document does not fit (next fit) or the
epoch ends, so that sequences have different numbers of tokens. They fill one batch of a stage after the other.

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

OnTooLong = Literal["error", "skip", "truncate"]


class Whole:
    """Packing of whole, shuffled documents. A position counts documents: epoch * N + place in the epoch.

    `on_too_long` says what becomes of documents longer than `seq_len`: they are an error, left out, or cut.
    """

    def __init__(self, documents: Documents, seed: int, on_too_long: OnTooLong = "error") -> None:
        check_documents(documents)
        self.documents, self.seed, self.on_too_long = documents, seed, on_too_long

    def stage(self, begin: int, batch_size: int, seq_len: int, steps: int) -> "WholeStage":
        """The `steps` * `batch_size` packed sequences of up to `seq_len` tokens from a position on."""
        check_stage(begin, batch_size, seq_len, steps)
        return WholeStage(self, begin, batch_size, seq_len, steps)


class _Packs(NamedTuple):
    """Sequences of one epoch: places of the documents taken in the permutation, the documents, and bounds of packs."""

    places: np.ndarray
    order: np.ndarray
    bounds: np.ndarray


class WholeStage:
    """Section of the packing. `long_documents` counts the documents of an epoch that were left out or cut."""

    def __init__(self, whole: Whole, begin: int, batch_size: int, seq_len: int, steps: int) -> None:
        self._documents, self._seed = whole.documents, whole.seed
        self._begin, self._batch_size, self._seq_len, self._steps = begin, batch_size, seq_len, steps
        long_N = self._documents.lengths_N > seq_len
        self.long_documents = int(long_N.sum())
        if self.long_documents and whole.on_too_long == "error":
            self._refuse(int(np.argmax(long_N)))
        skipped = whole.on_too_long == "skip"
        if skipped and self.long_documents == len(self._documents):
            raise InputError(f"every document is longer than seq_len={seq_len}, so that none is left")
        self._taken_N = np.where(long_N & skipped, 0, np.minimum(self._documents.lengths_N, seq_len))
        self._packs = functools.lru_cache(2)(self._make_packs)
        self._firsts = [0]  # the number of the first pack of each epoch from the stage's first on

    @property
    def end(self) -> int:
        """The position at which the next stage begins: after the last document of the last pack."""
        epoch, pack = self._find(self._steps * self._batch_size - 1)
        places, _, bounds = self._packs(epoch)
        return epoch * len(self._documents) + int(places[bounds[pack + 1] - 1]) + 1

    def pack(self, step: int, index: int) -> Pack:
        """Packed sequence `index` of the batch of a step."""
        check_place(step, index, self._steps, self._batch_size)
        epoch, pack = self._find(step * self._batch_size + index)
        _, order, bounds = self._packs(epoch)
        chosen = order[bounds[pack] : bounds[pack + 1]]
        return self._documents.pack((Piece(int(i), 0, int(self._taken_N[i])) for i in chosen), continues=False)

    def _refuse(self, document: int) -> None:
        number = int(self._documents.numbers_N[document])
        raise InputError(
            f"{self._documents.where(number)} is a document of {self._documents.lengths_N[document]} tokens, "
            f"but seq_len is {self._seq_len}; make it larger, or set data.on_too_long to skip or truncate"
        )

    def _find(self, number: int) -> tuple[int, int]:
        """Epoch of packed sequence `number` of this stage, and its number there."""
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
            bounds.append(int(np.searchsorted(ends, before + self._seq_len, side="right")))
        return _Packs(places, order, np.array(bounds))
