"""One packed batch of training: documents back to back, without padding.

Legend: T = tokens of all rows together.
"""

from typing import NamedTuple

from torch import Tensor


class Pack(NamedTuple):
    """Rows of documents, or of pieces of them.

    ids_T: int64. targets_T: int64, the next token of the same document, -100 where there is none or it is masked out.
    lengths: tokens of each row, summing to T. continues: the first row goes on with the document that the previous
    pack of this lane ended in. documents: number of each row's document, for messages.
    """

    ids_T: Tensor
    targets_T: Tensor
    lengths: tuple[int, ...]
    continues: bool
    documents: tuple[int, ...]
