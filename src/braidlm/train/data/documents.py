"""Tokenized documents: their lengths, their tokens, their sources.

Legend: N = documents, T = tokens of a piece.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from .entry import Source
from .pack import IGNORED, Pack


class Content(NamedTuple):
    """Content of one shard: its token ids, and which are trained on (None: all)."""

    ids_T: np.ndarray
    trained_T: np.ndarray | None


class Piece(NamedTuple):
    """Piece of a document: its tokens `begin` to `end`; `document` is its place among `Documents`."""

    document: int
    begin: int
    end: int


class Documents:
    """Documents in the order of their shards, or some of them.

    `index_N` holds `ENTRY`s of all documents, `contents` opens a shard, `chosen` picks documents by number.
    """

    def __init__(
        self,
        index_N: np.ndarray,
        contents: Callable[[int], Content],
        sources: Sequence[Source],
        chosen: np.ndarray | None = None,
    ) -> None:
        self._index_N, self._contents, self._sources = index_N, contents, sources
        previous_N = np.concatenate([np.zeros(1, np.int64), index_N["end"]])[:-1]
        first_N = np.concatenate([np.ones(1, bool), np.diff(index_N["shard"]) != 0])[: len(index_N)]
        self._begins_N = np.where(first_N, 0, previous_N)
        self.numbers_N = np.arange(len(index_N)) if chosen is None else chosen
        self.lengths_N = (index_N["end"] - self._begins_N)[self.numbers_N]

    def __len__(self) -> int:
        return len(self.numbers_N)

    @property
    def tokens(self) -> int:
        """Tokens of all documents."""
        return int(self.lengths_N.sum())

    def where(self, number: int) -> str:
        """Source of a document for messages: file and line."""
        entry = self._index_N[number]
        return self._sources[entry["source"]].place(int(entry["line"]))

    def pack(self, pieces: Iterable[Piece], continues: bool) -> Pack:
        """Packed sequence of the pieces, back to back, each with its targets."""
        pieces = tuple(pieces)
        ids, targets = zip(*(self._read(piece) for piece in pieces))
        return Pack(
            torch.from_numpy(np.concatenate(ids)),
            torch.from_numpy(np.concatenate(targets)),
            tuple(piece.end - piece.begin for piece in pieces),
            continues,
            tuple(int(self.numbers_N[piece.document]) for piece in pieces),
        )

    def _read(self, piece: Piece) -> tuple[np.ndarray, np.ndarray]:
        """Ids and targets of a piece; the last token of a cut piece has its document's next token as its target."""
        number, length = self.numbers_N[piece.document], self.lengths_N[piece.document]
        content = self._contents(int(self._index_N["shard"][number]))
        begin = self._begins_N[number]
        known = slice(begin + piece.begin, begin + min(piece.end + 1, length))
        ids_T = content.ids_T[known].astype(np.int64)
        next_T = ids_T[1:]
        if content.trained_T is not None:
            next_T = np.where(content.trained_T[known][1:] != 0, next_T, IGNORED)
        targets_T = np.full(piece.end - piece.begin, IGNORED, np.int64)
        targets_T[: len(next_T)] = next_T
        return ids_T[: piece.end - piece.begin], targets_T
