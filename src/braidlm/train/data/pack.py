"""Interface between data and training loop: packed sequences with targets, from a packing that can be entered anywhere.

Legend: T = tokens of a packed sequence.
"""

from typing import Any, NamedTuple, Protocol

from torch import Tensor

# A target of this value takes no part in the loss; torch's cross entropy has it as its default.
IGNORED = -100


class Pack(NamedTuple):
    """Packed sequence: one of the batch of a step.

    ids_T: int64, documents back to back, no padding.
    targets_T: int64, the next token of the same document; `IGNORED` where there is none or it is masked out.
    lengths: tokens of each row, which is a document or a piece of one; they sum to T.
    continues: the first row goes on with the document in which this sequence of the batch ended in the step before.
    documents: the number of each row's document, for messages (`Documents.where`).
    """

    ids_T: Tensor
    targets_T: Tensor
    lengths: tuple[int, ...]
    continues: bool
    documents: tuple[int, ...]


def targets_of(pack: Pack) -> int:
    """Number of targets that take part in the loss."""
    return int((pack.targets_T >= 0).sum())


class Stage(Protocol):
    """Section of a packing: `steps` batches of `batch_size` packed sequences."""

    @property
    def end(self) -> Any:
        """The position at which the next stage begins."""

    def pack(self, step: int, index: int) -> Pack:
        """Packed sequence `index` of the batch of a step, both from 0; the same one at every call."""


class Packing(Protocol):
    """Endless packing of documents into sequences, a pure function of the shards, a seed and a position."""

    def stage(self, begin: Any, batch_size: int, seq_len: int, steps: int) -> Stage:
        """The stage that begins at a position: 0, or the `end` of another stage. `seq_len` is in tokens."""
