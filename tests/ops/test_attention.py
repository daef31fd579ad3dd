"""Attention beyond the plain cases: any positions held, any dtype, rows apart, scores scaled."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from braidlm import ops
from braidlm.ops import Past, Segments, Visible
from tests.ops import definitions
from tests.ops.carried import close, randn
from tests.tolerances import RELATIVE_OP, RELATIVE_ROUNDED

DOUBLE = torch.float64
QUERIES, GROUPS, K, V = 4, 2, 3, 5

properties = settings(max_examples=60, deadline=None, derandomize=True)
row_of_a_batch = st.tuples(st.integers(0, 6), st.integers(0, 12), st.sets(st.integers(0, 40)))


def tensors(tokens: int, *, k: int = K, v: int = V) -> tuple[Tensor, Tensor, Tensor]:
    return randn(tokens, QUERIES, k), randn(tokens, GROUPS, k), randn(tokens, GROUPS, v)


def visible_positions(start: int, window: int | None, sink_tokens: int) -> set[int]:
    """Positions before `start` that a query from `start` on can see."""
    return {at for at in range(start) if window is None or start - at < window or at < sink_tokens}


@properties
@given(st.lists(row_of_a_batch, min_size=1, max_size=3), st.sampled_from([None, 1, 2, 5, 30]), st.integers(0, 4))
def test_any_positions_held(rows: list[tuple[int, int, set[int]]], window: int | None, sink_tokens: int) -> None:
    """Oracle: the definition, row by row; rings hold what can be seen, and some of what cannot."""
    sink_tokens = sink_tokens if window else 0
    lengths = tuple(length for length, _, _ in rows)
    if not any(lengths):
        return
    segments, starts = Segments(lengths), tuple(start for _, start, _ in rows)
    q, k, v = tensors(segments.total)
    pasts, expected = [], []
    for row, (length, start, more) in enumerate(rows):
        held = sorted(visible_positions(start, window, sink_tokens) | {at for at in more if at < start})
        old_k, old_v = randn(len(held), GROUPS, K), randn(len(held), GROUPS, V)
        pasts.append(Past(old_k, old_v, torch.tensor(held)) if held else None)
        part, new = slice(segments.starts[row], segments.starts[row + 1]), [*range(start, start + length)]
        if length:
            keys, values = torch.cat([old_k, k[part]]), torch.cat([old_v, v[part]])
            expected.append(definitions.attention(q[part], keys, values, new, held + new, 0.6, window, sink_tokens))
    found = ops.attention(q, k, v, tuple(pasts), starts, segments, scale=0.6, visible=Visible(window, sink_tokens))
    assert close(found, torch.cat(expected), RELATIVE_OP[DOUBLE])


def test_rows_that_hold_nothing_at_different_positions() -> None:
    """Oracle: the definition; with a window of one token even a long row may hold nothing."""
    q, k, v = tensors(6)
    segments, starts = Segments((3, 3)), (128, 0)
    found = ops.attention(q, k, v, (None, None), starts, segments, scale=1.0, visible=Visible(1, 0))
    assert close(found, v.repeat_interleave(QUERIES // GROUPS, 1), RELATIVE_OP[DOUBLE])


@pytest.mark.parametrize("value", [1, K, 8])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0])
def test_scores_are_scaled(scale: float, value: int) -> None:
    """Oracle: the definition; nearly flat and nearly one-hot softmax, values shorter and longer than keys."""
    q, k, v = tensors(9, v=value)
    positions = list(range(9))
    expected = definitions.attention(q, k, v, positions, positions, scale, None, 0)
    found = ops.attention(q, k, v, (None,), (0,), Segments((9,)), scale=scale, visible=Visible(None, 0))
    assert found.shape == (9, QUERIES, value)
    assert close(found, expected, RELATIVE_OP[DOUBLE])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("held", [0, 4])
def test_the_result_has_the_dtype_of_the_queries(held: int, dtype: torch.dtype) -> None:
    """Oracle: the definition on the same rounded numbers; only the result and the weights are rounded again."""
    q, k, v = (t.to(dtype) for t in tensors(held + 70, k=4, v=4))
    past = (Past(k[:held], v[:held], torch.arange(held)) if held else None,)
    new = (q[held:], k[held:], v[held:])
    found = ops.attention(*new, past, (held,), Segments((70,)), scale=0.5, visible=Visible(30, 2))
    positions = list(range(held + 70))
    wide = (t.double() for t in (new[0], k, v))
    expected = definitions.attention(*wide, positions[held:], positions, 0.5, 30, 2)
    assert found.dtype == dtype
    assert close(found.double(), expected, (RELATIVE_OP | RELATIVE_ROUNDED)[dtype])


@pytest.mark.parametrize("lengths", [(65, 0, 3, 65, 1), (5, 5, 5)])
@pytest.mark.parametrize("held", [0, 3])
def test_rows_do_not_see_each_other(held: int, lengths: tuple[int, ...]) -> None:
    """Oracle: the same batch with one row full of NaN, its past included; the other rows keep every bit."""
    segments, rows = Segments(lengths), range(len(lengths))
    new = tensors(segments.total)
    pasts = [Past(randn(held, GROUPS, K), randn(held, GROUPS, V), torch.arange(held)) if held else None for _ in rows]

    def run(packed: tuple[Tensor, ...], given_: list[Past | None]) -> Tensor:
        starts = (held,) * len(lengths)
        return ops.attention(*packed, tuple(given_), starts, segments, scale=1.0, visible=Visible(9, 1))

    clean = run(new, pasts)
    for spoiled in rows:
        part = slice(segments.starts[spoiled], segments.starts[spoiled + 1])
        bad, bad_pasts = tuple(t.clone() for t in new), list(pasts)
        for tensor in bad:
            tensor[part] = torch.nan
        past = pasts[spoiled]
        bad_pasts[spoiled] = past and Past(past.k_SGK * torch.nan, past.v_SGV * torch.nan, past.positions_S)
        found = run(bad, bad_pasts)
        assert found[part].isnan().all()
        found[part] = clean[part]
        assert torch.equal(found, clean)


@pytest.mark.parametrize("window", [None, 4])
def test_the_future_is_not_seen(window: int | None) -> None:
    """Oracle: the same tokens with another, far larger, future."""
    first = tensors(9)
    second = tuple(torch.cat([t[:6], 1e6 * randn(*t[6:].shape)]) for t in first)
    found, expected = (
        ops.attention(*packed, (None,), (0,), Segments((9,)), scale=1.0, visible=Visible(window, 0))[:6]
        for packed in (second, first)
    )
    assert close(found, expected, RELATIVE_OP[DOUBLE])
