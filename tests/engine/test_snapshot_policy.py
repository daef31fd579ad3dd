"""The policy of snapshots without a model: where a prompt's passes end, and at which positions snapshots are taken."""

from dataclasses import replace
from itertools import pairwise

import pytest

from braidlm.engine.snapshot_policy import SnapshotPolicy
from tests.engine.scheduling import asked

RECURRENT = SnapshotPolicy(8)
TRUNCATABLE = SnapshotPolicy(8, truncatable=True)
DISABLED = SnapshotPolicy(8, enabled=False)
POLICIES = (RECURRENT, TRUNCATABLE, DISABLED)


@pytest.mark.parametrize(
    ("policy", "begin", "max_decode_tokens", "options", "end"),
    [
        (RECURRENT, 0, 1, {}, 29),  # the last token is decoded, so that a snapshot is taken before it
        (RECURRENT, 0, 1, {"message_boundaries": (30,)}, 30),  # it is taken at the end anyway
        (TRUNCATABLE, 0, 1, {}, 30),
        (DISABLED, 0, 1, {}, 30),
        (RECURRENT, 22, 8, {}, 22),  # a short suffix is decoded
        (RECURRENT, 21, 8, {}, 29),
        (RECURRENT, 22, 8, {"n": 2}, 29),  # of several sequences, not several tokens
        (RECURRENT, 29, 8, {"n": 2}, 29),
        (RECURRENT, 22, 8, {"prompt_logprobs": 1}, 30),
        (RECURRENT, 22, 8, {"generates": False}, 30),
    ],
)
def test_where_passes_end(
    policy: SnapshotPolicy, begin: int, max_decode_tokens: int, options: dict[str, object], end: int
) -> None:
    """Oracle: by hand, of a prompt of 30 tokens."""
    assert policy.prefill_end(asked(30, **options), begin, max_decode_tokens) == end


def test_positions() -> None:
    """Oracle: by hand: multiples of the interval, ends of messages, before the last token; none without memory."""
    request = asked(30, message_boundaries=(5, 17))
    assert RECURRENT.snapshot_positions(request, 0, 30) == (5, 8, 16, 17, 24, 29)
    assert RECURRENT.snapshot_positions(request, 8, 17) == (16, 17)
    assert TRUNCATABLE.snapshot_positions(request, 0, 30) == (30,)
    assert TRUNCATABLE.snapshot_positions(request, 0, 29) == ()
    assert DISABLED.snapshot_positions(request, 0, 30) == ()


@pytest.mark.parametrize("begin", range(0, 64, 7))
def test_the_interval_holds(begin: int) -> None:
    """Oracle: the rule: between two positions there are at most as many tokens as the interval."""
    positions = (begin, *RECURRENT.snapshot_positions(asked(64), begin, 63))
    assert all(0 < after - before <= 8 for before, after in pairwise(positions))


def test_inside_an_answer() -> None:
    """Oracle: by hand: at multiples of the interval, where states cannot be truncated."""
    request = asked(30)
    wanted = [[length for length in range(1, 33) if policy.wants_snapshot(request, length)] for policy in POLICIES]
    assert wanted == [[8, 16, 24, 32], [], []]


def test_none_after_a_state_that_was_given() -> None:
    """Oracle: by hand: which tokens such a state has seen is not known, so that no other prompt begins like it."""

    class Given:
        length = 100

    request = replace(asked(30), state=Given())
    assert RECURRENT.snapshot_positions(request, 0, 30) == ()
    assert not RECURRENT.wants_snapshot(request, 8)
    assert RECURRENT.prefill_end(request, 0, 1) == 30
