"""The order for pre-training: documents as one endless stream of tokens, cut anywhere.

An epoch is a permutation of the documents by (seed, epoch), and the epochs follow each other. A stage takes a section
of that stream, and each lane of it a part without gaps: a lane's packs follow each other, so that a state can be
carried from one to the next.

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

# Epochs that are kept: lanes that lie in different ones take turns. At most this many, and this many documents in all.
_EPOCHS, _ENTRIES = 64, 2**25


class _Epoch(NamedTuple):
    """Documents in their order, and the position at which each one's tokens end."""

    order_N: np.ndarray
    ends_N: np.ndarray


class Stream:
    """The endless stream of documents by a seed. Finding a position takes O(log N) time."""

    def __init__(self, documents: Documents, seed: int) -> None:
        check_documents(documents)
        self.documents = documents
        self.tokens = documents.tokens  # of an epoch
        self._seed = seed
        self._epoch = functools.lru_cache(max(2, min(_EPOCHS, _ENTRIES // len(documents))))(self._make_epoch)

    def stage(self, begin: int, lanes: int, tokens: int, steps: int) -> "StreamStage":
        """The section [begin, begin + steps * lanes * tokens) of the stream."""
        check_stage(begin, lanes, tokens, steps)
        return StreamStage(self, begin, lanes, tokens, steps)

    def pieces(self, position: int, tokens: int) -> Iterator[Piece]:
        """The `tokens` tokens from a position on, as pieces of documents."""
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
    """Lane l takes tokens [begin + l * steps * tokens, begin + (l + 1) * steps * tokens), a pack of `tokens` a step."""

    def __init__(self, stream: Stream, begin: int, lanes: int, tokens: int, steps: int) -> None:
        self._stream, self._begin = stream, begin
        self._lanes, self._tokens, self._steps = lanes, tokens, steps

    @property
    def end(self) -> int:
        """The position at which the next stage begins."""
        return self._begin + self._steps * self._lanes * self._tokens

    def pack(self, step: int, lane: int) -> Pack:
        """The pack of one step and lane; nothing precedes a lane's first one."""
        check_place(step, lane, self._steps, self._lanes)
        position = self._begin + (lane * self._steps + step) * self._tokens
        pieces = tuple(self._stream.pieces(position, self._tokens))
        return self._stream.documents.pack(pieces, continues=step > 0 and pieces[0].begin > 0)


def check_documents(documents: Documents) -> None:
    """`InputError` where there is nothing to order."""
    if not len(documents):
        raise InputError("there are no documents to train on; at least one is needed")


def check_stage(begin: int, lanes: int, tokens: int, steps: int) -> None:
    """`InputError` unless these can be a stage."""
    if begin < 0 or min(lanes, tokens, steps) < 1:
        raise InputError(
            f"a stage begins at {begin} with {lanes} lanes, {tokens} tokens and {steps} steps, but it must begin at 0 "
            "or later and have at least one of each"
        )


def check_place(step: int, lane: int, steps: int, lanes: int) -> None:
    """`InputError` unless a stage has this step and lane."""
    if not (0 <= step < steps and 0 <= lane < lanes):
        raise InputError(f"step {step}, lane {lane} is outside of a stage of {steps} steps and {lanes} lanes")
