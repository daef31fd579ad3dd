"""The order for instruction tuning: whole documents, packed by next fit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidlm.errors import InputError
from braidlm.train.data.permutation import permutation
from braidlm.train.data.whole import OnTooLong, Whole
from tests.train.data.checked import check_rows
from tests.train.data.made import documents, lengths, properties


def packed(
    sizes: list[int], seed: int, begin: int, seq_len: int, on_too_long: OnTooLong, packs: int
) -> list[list[int]]:
    """Next fit by its definition: document after document, a new pack when the next one does not fit."""
    found: list[list[int]] = []
    position, room = begin, 0
    while len(found) <= packs:
        epoch, place = divmod(position, len(sizes))
        if place == 0:
            room = 0
        i = int(permutation(len(sizes), seed, epoch)[place])
        size = min(sizes[i], seq_len)
        if sizes[i] <= seq_len or on_too_long == "truncate":
            if size > room:
                found.append([])
                room = seq_len
            found[-1].append(i)
            room -= size
        position += 1
    return found[:packs]


@properties
@given(lengths, st.integers(0, 30), st.integers(1, 3), st.integers(3, 30), st.integers(1, 5), st.booleans())
def test_packs(sizes: list[int], begin: int, batch_size: int, seq_len: int, steps: int, skip: bool) -> None:
    """Oracle: next fit by its definition; a document is in one pack, and cut only where that was asked for."""
    sizes = [*sizes, 2]
    on_too_long: OnTooLong = "skip" if skip else "truncate"
    stage = Whole(documents(sizes), 5, on_too_long).stage(begin, batch_size, seq_len, steps)
    assert stage.long_documents == sum(size > seq_len for size in sizes)
    expected = packed(sizes, 5, begin, seq_len, on_too_long, batch_size * steps)
    for step in range(steps):
        for index in range(batch_size):
            pack = stage.pack(step, index)
            assert list(pack.documents) == expected[step * batch_size + index]
            assert list(pack.lengths) == [min(sizes[i], seq_len) for i in pack.documents]
            assert not pack.continues
            check_rows(pack, sizes)


@properties
@given(lengths, st.integers(1, 3), st.integers(1, 5))
def test_seeking_and_following_stages(sizes: list[int], batch_size: int, steps: int) -> None:
    """Oracle: one stage of all steps, walked; two stages of half the steps, each pack sought by a fresh object."""
    order = Whole(documents(sizes), 2)
    long = order.stage(0, batch_size, 12, 2 * steps)
    walk = [long.pack(step, index) for step in range(2 * steps) for index in range(batch_size)]
    middle = order.stage(0, batch_size, 12, steps).end
    assert order.stage(middle, batch_size, 12, steps).end == long.end
    for i, expected in reversed(list(enumerate(walk))):
        step, index = divmod(i, batch_size)
        begin, step = (0, step) if step < steps else (middle, step - steps)
        found = Whole(documents(sizes), 2).stage(begin, batch_size, 12, steps).pack(step, index)
        assert all(np.array_equal(a, b) for a, b in zip(found, expected))


def test_too_long() -> None:
    """Oracle: sentences by hand: the place of the first one, and what could be done."""
    with pytest.raises(InputError, match=r"a\.jsonl, line 2 is a document of 9 tokens, but seq_len is 8; make"):
        Whole(documents([5, 9, 12]), 0).stage(0, 1, 8, 1)
    with pytest.raises(InputError, match="every document is longer than seq_len=4"):
        Whole(documents([5, 9]), 0, "skip").stage(0, 1, 4, 1)
    with pytest.raises(InputError, match="a stage begins at -1"):
        Whole(documents([5, 9]), 0).stage(-1, 1, 9, 1)
