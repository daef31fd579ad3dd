"""The native implementation of attention, at every level: odd sizes, windows, pasts with gaps, threads."""

from collections.abc import Iterator

import pytest
import torch

from braidlm import ops
from braidlm.ops import Past, Segments, Visible, dispatch
from tests.ops import definitions
from tests.ops.carried import close, randn
from tests.ops.levels import LEVELS, at_level
from tests.ops.sliced_heads import sliced
from tests.tolerances import RELATIVE_OP, RELATIVE_ROUNDED

SINGLE, NARROW = torch.float32, torch.bfloat16
SCALE = 0.4


@pytest.fixture(params=LEVELS)
def level(request: pytest.FixtureRequest) -> Iterator[str]:
    with at_level(request.param), dispatch.using("native"):
        yield request.param


@pytest.mark.parametrize("dtype", [SINGLE, NARROW])
@pytest.mark.parametrize("heads", [(1, 1, 1, 1), (6, 2, 9, 33), (5, 5, 32, 64), (40, 1, 7, 5)])
@pytest.mark.parametrize(("window", "sink_tokens"), [(None, 0), (1, 0), (20, 3), (1000, 5)])
@pytest.mark.parametrize(("held", "length"), [(0, 1), (0, 65), (0, 130), (70, 3), (64, 64), (1, 100)])
def test_any_sizes(
    held: int,
    length: int,
    window: int | None,
    sink_tokens: int,
    heads: tuple[int, int, int, int],
    dtype: torch.dtype,
    level: str,
) -> None:
    """Oracle: softmax over the visible keys in float64 on the same rounded numbers; the past has a gap."""
    queries, groups, key, value = heads
    if queries == 40 and length > 3 and level != LEVELS[-1]:
        pytest.skip("the definition takes its time for many heads; one level is enough")
    q, k, v = randn(length, queries, key), randn(held + length, groups, key), randn(held + length, groups, value)
    q, k, v = (sliced(t.to(dtype)) for t in (q, k, v))
    early = held // 2 if window is not None else held
    positions = [*range(early), *range(early + 500, held + 500 + length)] if window else [*range(held + length)]
    start = positions[held]
    past = Past(k[:held], v[:held], torch.tensor(positions[:held])) if held else None
    segments, visible = Segments((length,)), Visible(window, sink_tokens)
    found = ops.attention(q, k[held:], v[held:], (past,), (start,), segments, scale=SCALE, visible=visible)
    wide = (t.double() for t in (q, k, v))
    expected = definitions.attention(*wide, positions[held:], positions, SCALE, window, sink_tokens)
    assert found.dtype == dtype
    assert close(found.double(), expected, (RELATIVE_OP | RELATIVE_ROUNDED)[dtype])


def test_rows_and_threads(level: str) -> None:
    """Oracle: each row alone with one thread, bit for bit."""
    segments, starts = Segments((300, 0, 1, 70)), (0, 5, 40, 3)
    q, k, v = randn(371, 6, 8).float(), randn(371, 2, 8).float(), randn(371, 2, 8).float()
    pasts = [None if not n else Past(randn(n, 2, 8).float(), randn(n, 2, 8).float(), torch.arange(n)) for n in starts]
    visible, before = Visible(50, 2), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = [
            ops.attention(*(t[a:b] for t in (q, k, v)), (p,), (n,), Segments((b - a,)), scale=1.0, visible=visible)
            for a, b, p, n in zip(segments.starts, segments.starts[1:], pasts, starts)
        ]
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found = ops.attention(q, k, v, tuple(pasts), starts, segments, scale=1.0, visible=visible)
            assert torch.equal(found, torch.cat(alone))
    finally:
        torch.set_num_threads(before)
