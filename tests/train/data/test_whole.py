"""The order for instruction tuning: whole documents, packed by next fit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidlm.errors import InputError
from braidlm.train.data.permutation import permutation
from braidlm.train.data.whole import TooLong, Whole
from tests.train.data.made import documents, lengths, properties
from tests.train.data.test_stream import check_rows


def packed(sizes: list[int], seed: int, begin: int, tokens: int, too_long: TooLong, packs: int) -> list[list[int]]:
    """Next fit by its definition: document after document, a new pack when the next one does not fit."""
    found: list[list[int]] = []
    position, room = begin, 0
    while len(found) <= packs:
        epoch, place = divmod(position, len(sizes))
        if place == 0:
            room = 0
        i = int(permutation(len(sizes), seed, epoch)[place])
        size = min(sizes[i], tokens)
        if sizes[i] <= tokens or too_long == "truncate":
            if size > room:
                found.append([])
                room = tokens
            found[-1].append(i)
            room -= size
        position += 1
    return found[:packs]


@properties
@given(lengths, st.integers(0, 30), st.integers(1, 3), st.integers(3, 30), st.integers(1, 5), st.booleans())
def test_packs(sizes: list[int], begin: int, lanes: int, tokens: int, steps: int, skip: bool) -> None:
    """Oracle: next fit by its definition; a document is in one pack, and cut only where that was asked for."""
    sizes = [*sizes, 2]
    too_long: TooLong = "skip" if skip else "truncate"
    stage = Whole(documents(sizes), 5, too_long).stage(begin, lanes, tokens, steps)
    assert stage.too_long == sum(size > tokens for size in sizes)
    expected = packed(sizes, 5, begin, tokens, too_long, lanes * steps)
    for step in range(steps):
        for lane in range(lanes):
            pack = stage.pack(step, lane)
            assert list(pack.documents) == expected[step * lanes + lane]
            assert list(pack.lengths) == [min(sizes[i], tokens) for i in pack.documents]
            assert not pack.continues
            check_rows(pack, sizes)


@properties
@given(lengths, st.integers(1, 3), st.integers(1, 5))
def test_seeking_and_following_stages(sizes: list[int], lanes: int, steps: int) -> None:
    """Oracle: one stage of all steps, walked; two stages of half the steps, each pack sought by a fresh object."""
    order = Whole(documents(sizes), 2)
    long = order.stage(0, lanes, 12, 2 * steps)
    walk = [long.pack(step, lane) for step in range(2 * steps) for lane in range(lanes)]
    middle = order.stage(0, lanes, 12, steps).end
    assert order.stage(middle, lanes, 12, steps).end == long.end
    for i, expected in reversed(list(enumerate(walk))):
        step, lane = divmod(i, lanes)
        begin, step = (0, step) if step < steps else (middle, step - steps)
        found = Whole(documents(sizes), 2).stage(begin, lanes, 12, steps).pack(step, lane)
        assert all(np.array_equal(a, b) for a, b in zip(found, expected))


def test_too_long() -> None:
    """Oracle: sentences by hand: the place of the first one, and what could be done."""
    with pytest.raises(InputError, match=r"a\.jsonl, line 2 is a document of 9 tokens, but a pack has at most 8; make"):
        Whole(documents([5, 9, 12]), 0).stage(0, 1, 8, 1)
    with pytest.raises(InputError, match="every document is longer than a pack of 4 tokens"):
        Whole(documents([5, 9]), 0, "skip").stage(0, 1, 4, 1)
    with pytest.raises(InputError, match="a stage begins at -1"):
        Whole(documents([5, 9]), 0).stage(-1, 1, 9, 1)
