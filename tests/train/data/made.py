"""Documents made of plain arrays, and small sources of every kind."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from braidlm.train.data.documents import Content, Documents, Piece
from braidlm.train.data.entry import ENTRY, Source
from braidlm.train.data.shards import Shards
from tests.text.made import byte_level

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


def texts(count: int) -> list[str]:
    """Documents of different lengths, all different, with what cannot stand in a line of JSON as it is."""
    return [f"The fox {i} jumps;\nnaïve café — 数 😀 " + "and the dog does not mind. " * (i % 7) for i in range(count)]


def json_lines(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def read_back(shards: Shards) -> list[tuple[str, str]]:
    """Place and text of every document, in order of the shards; each must end in the end of the text."""
    found = []
    for number in range(len(shards.training)):
        length = int(shards.training.lengths_N[number])
        ids = shards.training.pack([Piece(number, 0, length)], False).ids_T.tolist()
        assert ids[-1] == byte_level().eos_ids[0]
        found.append((shards.training.where(number), byte_level().decode(ids[:-1], skip_special=False)))
    return found
