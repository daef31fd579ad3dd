"""Packing for pre-training: documents as one endless stream of tokens, cut anywhere.

An epoch is a permutation of the documents by (seed, epoch), and the epochs follow each other. A stage takes a section
of that stream, and each sequence of its batch a part without gaps: sequence i of one step goes on where sequence i of
the step before has ended, so that a state can be carried from one to the next.

Legend: N = documents.
"""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ...errors import InputError
from .documents import Documents, Piece
from .pack import Pack
from .permutation import permutation

# Epochs that are kept, in which the sequences of a batch may lie: at most this many, and this many documents in all.
_EPOCHS, _ENTRIES = 64, 2**25


class _Epoch(NamedTuple):
    """Order of one epoch: the shuffled documents, and the position at which each one's tokens end."""

    order_N: np.ndarray
    ends_N: np.ndarray


class Stream:
    """Endless stream of shuffled documents. Finding a position takes O(log N) time."""

    def __init__(self, documents: Documents, seed: int) -> None:
        check_documents(documents)
        self.documents = documents
        self.tokens = documents.tokens  # of an epoch
        self._seed = seed
        self._epoch = functools.lru_cache(max(2, min(_EPOCHS, _ENTRIES // len(documents))))(self._make_epoch)

    def stage(self, begin: int, batch_size: int, seq_len: int, steps: int) -> "StreamStage":
        """The section [begin, begin + steps * batch_size * seq_len) of the stream."""
        check_stage(begin, batch_size, seq_len, steps)
        return StreamStage(self, begin, batch_size, seq_len, steps)

    def pieces(self, position: int, tokens: int) -> Iterator[Piece]:
        """Pieces of documents that make up the `tokens` tokens from a position on."""
        epoch, offset = divmod(position, self.tokens)
        order_N, ends_N = self._epoch(epoch)
        place = int(np.searchsorted(ends_N, offset, side="right"))
        while tokens:
            if place == len(order_N):
                epoch, offset, place = epoch + 1, 0, 0
                order_N, ends_N = self._epoch(epoch)
            document = int(order_N[place])
            begin = int(self.documents.lengths_N[document]) - int(ends_N[place]) + offset
            taken = min(int(ends_N[place]) - offset, tokens)
            yield Piece(document, begin, begin + taken)
            place, offset, tokens = place + 1, offset + taken, tokens - taken

    def _make_epoch(self, epoch: int) -> _Epoch:
        order_N = permutation(len(self.documents), self._seed, epoch)
        return _Epoch(order_N, np.cumsum(self.documents.lengths_N[order_N]))


class StreamStage:
    """Section of the stream; over its steps sequence i of the batch takes, `seq_len` tokens a step, the tokens
    [begin + i * steps * seq_len, begin + (i + 1) * steps * seq_len).
    """

    def __init__(self, stream: Stream, begin: int, batch_size: int, seq_len: int, steps: int) -> None:
        self._stream, self._begin = stream, begin
        self._batch_size, self._seq_len, self._steps = batch_size, seq_len, steps

    @property
    def end(self) -> int:
        """The position at which the next stage begins."""
        return self._begin + self._steps * self._batch_size * self._seq_len

    def pack(self, step: int, index: int) -> Pack:
        """Packed sequence `index` of the batch of a step; it continues none in the first step."""
        check_place(step, index, self._steps, self._batch_size)
        position = self._begin + (index * self._steps + step) * self._seq_len
        pieces = tuple(self._stream.pieces(position, self._seq_len))
        return self._stream.documents.pack(pieces, continues=step > 0 and pieces[0].begin > 0)


def check_documents(documents: Documents) -> None:
    """`InputError` unless there are documents to pack."""
    if not len(documents):
        raise InputError("there are no documents to train on; at least one is needed")


def check_stage(begin: int, batch_size: int, seq_len: int, steps: int) -> None:
    """`InputError` unless these can be a stage."""
    if begin < 0 or min(batch_size, seq_len, steps) < 1:
        raise InputError(
            f"a stage begins at {begin} with batch_size {batch_size}, seq_len {seq_len} and {steps} steps, but it must "
            "begin at 0 or later, and all of these must be at least 1"
        )


def check_place(step: int, index: int, steps: int, batch_size: int) -> None:
    """`InputError` unless a stage has this step, and its batch this sequence."""
    if not (0 <= step < steps and 0 <= index < batch_size):
        raise InputError(
            f"step {step}, sequence {index} is outside of a stage of {steps} steps with batch_size {batch_size}"
        )
