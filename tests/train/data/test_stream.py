"""The order for pre-training: nothing lost, nothing twice, entered anywhere."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidlm.errors import InputError
from braidlm.train.data.permutation import permutation
from braidlm.train.data.stream import Stream
from tests.train.data.checked import check_rows
from tests.train.data.made import documents, lengths, properties


def walked(sizes: list[int], seed: int, tokens: int) -> list[int]:
    """The first tokens of the stream by its definition: document after document, epoch after epoch."""
    found: list[int] = []
    epoch = 0
    while len(found) < tokens:
        for i in permutation(len(sizes), seed, epoch):
            found += range(1000 * i, 1000 * i + sizes[i])
        epoch += 1
    return found[:tokens]


stages = st.tuples(st.integers(0, 200), st.integers(1, 4), st.integers(1, 30), st.integers(1, 6))


@properties
@given(lengths, st.integers(0, 5), stages)
def test_a_stage_is_a_section_of_the_stream(sizes: list[int], seed: int, stage: tuple[int, int, int, int]) -> None:
    """Oracle: the stream by its definition, cut by hand; sequences side by side are the section, each token once."""
    begin, batch_size, seq_len, steps = stage
    found = Stream(documents(sizes), seed).stage(*stage)
    parts = [found.pack(step, index).ids_T.tolist() for index in range(batch_size) for step in range(steps)]
    assert all(len(part) == seq_len for part in parts)
    assert [token for part in parts for token in part] == walked(sizes, seed, found.end)[begin:]
    assert found.end == begin + batch_size * seq_len * steps


@properties
@given(lengths, stages, st.frozensets(st.integers(0, 9000), max_size=40))
def test_rows_and_targets(sizes: list[int], stage: tuple[int, int, int, int], untrained: frozenset[int]) -> None:
    """Oracle: tokens that name their document and place: the next one of the same document is one more."""
    untrained = untrained | {1000, 1001}
    found = Stream(documents(sizes, untrained), 3).stage(*stage)
    for step in range(stage[3]):
        pack = found.pack(step, stage[1] - 1)
        check_rows(pack, sizes, untrained)
        if step:
            before = found.pack(step - 1, stage[1] - 1).ids_T[-1].item()
            assert pack.continues == (before % 1000 + 1 < sizes[before // 1000])
        else:
            assert not pack.continues


@properties
@given(lengths, stages)
def test_seeking_is_walking(sizes: list[int], stage: tuple[int, int, int, int]) -> None:
    """Oracle: the same packs, walked in order by an object of its own."""
    _, batch_size, _, steps = stage
    places = [(step, index) for step in range(steps) for index in range(batch_size)]
    one = Stream(documents(sizes), 1).stage(*stage)
    walk = {place: one.pack(*place) for place in places}
    for place in reversed(places):
        sought = Stream(documents(sizes), 1).stage(*stage).pack(*place)
        assert all(np.array_equal(a, b) for a, b in zip(sought, walk[place]))


def test_stages_follow_each_other() -> None:
    """Oracle: one stage of all steps; of one index, stages of other sizes give the same stream."""
    stream = Stream(documents([5, 9, 2, 7]), 0)
    whole = stream.stage(0, 1, 60, 1).pack(0, 0).ids_T.tolist()
    first = stream.stage(0, 1, 10, 3)
    second = stream.stage(first.end, 1, 15, 2)
    parts = [first.pack(step, 0) for step in range(3)] + [second.pack(step, 0) for step in range(2)]
    assert [token for part in parts for token in part.ids_T.tolist()] == whole


def splitmix64(state: int) -> int:
    """By its definition, on Python's integers."""
    z = state
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return z ^ (z >> 31)


def test_permutations() -> None:
    """Oracle: splitmix64 on Python's integers: the order may never change; another one by seed and epoch."""
    places = [(seed, epoch) for seed in (0, 1, -3) for epoch in (0, 1, 10**9)]
    for seed, epoch in places:
        start = int.from_bytes(hashlib.sha256(f"{seed} {epoch}".encode()).digest()[:8], "little")
        keys = [splitmix64((start + (i + 1) * 0x9E3779B97F4A7C15) % 2**64) for i in range(50)]
        assert permutation(50, seed, epoch).tolist() == sorted(range(50), key=keys.__getitem__)
    assert len({tuple(permutation(50, *place)) for place in places}) == len(places)


def test_a_permutation_is_even() -> None:
    """Oracle: probability: over 400 epochs each of 5 documents is first about 80 times, within 4 deviations of 8."""
    firsts = np.bincount([permutation(5, 0, epoch)[0] for epoch in range(400)], minlength=5)
    assert abs(firsts - 80).max() <= 4 * 8


def test_what_cannot_be_asked_for() -> None:
    """Oracle: sentences by hand."""
    stream = Stream(documents([5, 9]), 0)
    with pytest.raises(InputError, match="a stage begins at 0 with batch_size 0, seq_len 4 and 2 steps, but it must"):
        stream.stage(0, 0, 4, 2)
    with pytest.raises(InputError, match="step 2, sequence 0 is outside of a stage of 2 steps with batch_size 1"):
        stream.stage(0, 1, 4, 2).pack(2, 0)
    with pytest.raises(InputError, match="no documents to train on"):
        Stream(documents([]), 0)
