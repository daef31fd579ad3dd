"""What the training loop gets: packed rows with their targets, from an order that can be entered anywhere.

Legend: T = tokens of a pack.
"""

from typing import NamedTuple, Protocol

from torch import Tensor

# A target of this value takes no part in the loss; torch's cross entropy has it as its default.
IGNORED = -100


class Pack(NamedTuple):
    """Tokens of one lane and step.

    ids_T: int64, documents back to back, no padding.
    targets_T: int64, the next token of the same document; `IGNORED` where there is none or it is masked out.
    lengths: tokens of each row, which is a document or a piece of one; they sum to T.
    continues: the first row goes on with the document in which the previous pack of this lane ended.
    documents: the number of each row's document, for messages (`Documents.where`).
    """

    ids_T: Tensor
    targets_T: Tensor
    lengths: tuple[int, ...]
    continues: bool
    documents: tuple[int, ...]


class Stage(Protocol):
    """A section of an order: `steps` packs for each of `lanes` lanes."""

    @property
    def end(self) -> int:
        """The position at which the next stage begins."""

    def pack(self, step: int, lane: int) -> Pack:
        """The pack of one step and lane, both from 0; the same one whenever it is asked for."""


class Order(Protocol):
    """Documents in an order that is a pure function of the shards, a seed and a position; it never ends."""

    def stage(self, begin: int, lanes: int, tokens: int, steps: int) -> Stage:
        """The stage that begins at a position: 0, or the `end` of another stage. `tokens` are those of a pack."""
