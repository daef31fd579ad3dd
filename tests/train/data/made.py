"""Documents made of plain arrays, in shards of a few documents."""

from collections.abc import Sequence

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from braidlm.train.data.documents import Content, Documents
from braidlm.train.data.entry import ENTRY, Source

properties = settings(max_examples=80, deadline=None, derandomize=True)
lengths = st.lists(st.integers(1, 12), min_size=1, max_size=14)


def documents(lengths: Sequence[int], untrained: frozenset[int] = frozenset(), a_shard: int = 3) -> Documents:
    """Document i has the tokens 1000 i, 1000 i + 1, ...; those in `untrained` are not trained on."""
    contents, entries = [], []
    for shard, first in enumerate(range(0, len(lengths), a_shard)):
        ids: list[int] = []
        for number in range(first, min(first + a_shard, len(lengths))):
            ids += range(1000 * number, 1000 * number + lengths[number])
            entries.append((len(ids), number + 1, number, 0, shard))
        trained = np.array([token not in untrained for token in ids], np.uint8)
        contents.append(Content(np.array(ids, np.uint16), trained if untrained else None))
    return Documents(np.array(entries, ENTRY), contents.__getitem__, [Source("a.jsonl", "line")])
