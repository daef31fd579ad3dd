"""The references' own blocking: chunks of time, spans of chunks, blocks of channels and of queries.

Blocks are made so small that short rows cross many of them; the results must not notice.
"""

from itertools import accumulate

import pytest
import torch
from torch import Tensor

from braidlm import ops
from braidlm.ops import Carried, Past, Segments, Visible
from braidlm.ops.attention import reference as attention_reference
from braidlm.ops.gated_conv import reference as gated_conv_reference
from braidlm.ops.selective_scan import reference as selective_scan_reference
from braidlm.ops.ssd import reference as ssd_reference
from tests.ops import definitions
from tests.ops.carried import close, randn
from tests.tolerances import RELATIVE_FFT, RELATIVE_OP

DOUBLE = torch.float64
ROWS = 2  # of equal length, computed together
CHUNK_EDGES = [(chunk, n) for chunk in (1, 2, 7, 16) for n in {chunk - 1, chunk, chunk + 1, 2 * chunk + 1} - {0}]


def check_rows(found: Carried, expected: list[tuple[Tensor, Tensor]], tolerance: float) -> None:
    """Outputs and final states of the packed rows against a definition's of each row."""
    assert close(found.y_T, torch.cat([y for y, _ in expected]), tolerance)
    assert close(found.state_R, torch.stack([after for _, after in expected]), tolerance)


@pytest.mark.parametrize(("chunk", "length"), CHUNK_EDGES)
def test_chunks_of_the_selective_scan(chunk: int, length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the sequential definition in float64; the state is carried from chunk to chunk."""
    channels, states = 3, 2
    monkeypatch.setattr(selective_scan_reference, "_CHUNK_ELEMENTS", chunk * ROWS * channels * states)
    segments = Segments((length,) * ROWS)
    x, dt = randn(segments.total, channels), torch.rand(segments.total, channels, dtype=DOUBLE)
    b, c, d = randn(segments.total, states), randn(segments.total, states), randn(channels)
    a, state = -4 * torch.rand(channels, states, dtype=DOUBLE), randn(ROWS, channels, states)
    found = ops.selective_scan(x, dt, a, b, c, d, state, segments)
    rows = zip(*(t.split(length) for t in (x, dt, b, c)), state, strict=True)
    expected = [definitions.selective_scan(x, dt, a, b, c, d, h) for x, dt, b, c, h in rows]
    check_rows(found, expected, RELATIVE_OP[DOUBLE])


@pytest.mark.parametrize("length", range(1, 18))
def test_pairs_of_the_linear_recurrence(length: int) -> None:
    """Oracle: the recurrence step by step in float64, at every length up to four halvings."""
    decay, update = torch.rand(2, length, 3, dtype=DOUBLE), randn(2, length, 3)
    pairs = zip(decay.unbind(1), update.unbind(1), strict=True)
    steps = accumulate(pairs, lambda h, pair: pair[0] * h + pair[1], initial=torch.zeros(2, 3, dtype=DOUBLE))
    expected = torch.stack(list(steps)[1:], 1)
    assert close(selective_scan_reference.linear_recurrence(decay, update), expected, RELATIVE_OP[DOUBLE])


@pytest.mark.parametrize("spans", [1, 2, 100])
@pytest.mark.parametrize(("chunk", "length"), CHUNK_EDGES)
def test_chunks_of_the_ssd(chunk: int, length: int, spans: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the sequential definition in float64; within a span of chunks, across spans, and with a padded tail."""
    heads, size, groups, states = 4, 3, 2, 2
    monkeypatch.setattr(ssd_reference, "CHUNK", chunk)
    monkeypatch.setattr(ssd_reference, "_DECAY_ELEMENTS", spans * ROWS * heads * chunk * chunk)
    segments = Segments((length,) * ROWS)
    x, dt = randn(segments.total, heads, size), torch.rand(segments.total, heads, dtype=DOUBLE)
    b, c, d = randn(segments.total, groups, states), randn(segments.total, groups, states), randn(heads)
    a, state = -4 * torch.rand(heads, dtype=DOUBLE), randn(ROWS, heads, size, states)
    found = ops.ssd(x, dt, a, b, c, d, state, segments)
    rows = zip(*(t.split(length) for t in (x, dt, b, c)), state, strict=True)
    check_rows(found, [definitions.ssd(x, dt, a, b, c, d, h) for x, dt, b, c, h in rows], RELATIVE_OP[DOUBLE])


@pytest.mark.parametrize("block", [1, 2, 4, 5])
@pytest.mark.parametrize("filters", [2, 6])
@pytest.mark.parametrize("length", [2, 3, 65])
def test_blocks_of_channels_of_the_gated_convolution(
    length: int, filters: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: the recurrence in float64; blocks that end within and between filters shared by channels."""
    channels, modes = 6, 2
    monkeypatch.setattr(gated_conv_reference, "_POWER_ELEMENTS", block * length * modes)
    segments = Segments((length,) * ROWS)
    u, gate, d = randn(segments.total, channels), randn(segments.total, channels), randn(channels)
    poles = torch.polar(torch.rand(filters, modes, dtype=DOUBLE), randn(filters, modes))
    residues = torch.complex(randn(filters, modes), randn(filters, modes))
    state = torch.complex(randn(ROWS, channels, modes), randn(ROWS, channels, modes))
    found = ops.gated_conv(u, gate, poles, residues, d, state, segments)
    rows = zip(u.split(length), gate.split(length), state, strict=True)
    expected = [definitions.gated_conv(u, gate, poles, residues, d, s) for u, gate, s in rows]
    check_rows(found, expected, RELATIVE_FFT[DOUBLE])


@pytest.mark.parametrize("count", [1, 2, 3, 4, 15, 16, 17, 100, 101])
def test_powers_of_poles(count: int) -> None:
    """Oracle: repeated multiplication in complex128; a pole of zero, on the circle, and on the negative axis."""
    poles = torch.tensor([[0, 1, -1, 1j, -0.5, 0.3 + 0.4j]], dtype=torch.complex128)
    expected = [torch.ones_like(poles)]
    for _ in range(count - 1):
        expected.append(expected[-1] * poles)
    found = gated_conv_reference.powers(poles, count)
    assert found.shape == (1, 6, count)
    assert close(found, torch.stack(expected, -1), RELATIVE_FFT[DOUBLE])


def test_sizes_of_transforms() -> None:
    """Oracle: a search through all sizes of the wanted form."""
    sizes = sorted(odd << k for odd in (1, 3, 5, 9, 15) for k in range(14))
    for least in range(1, 3000):
        assert gated_conv_reference._fft_size(least) == next(size for size in sizes if size >= least)


@pytest.mark.parametrize(("window", "sink_tokens"), [(None, 0), (1, 0), (3, 0), (3, 2), (5, 9), (100, 0)])
@pytest.mark.parametrize("length", [3, 4, 5, 7, 8, 9, 13])
@pytest.mark.parametrize("held", [0, 1, 6])
def test_blocks_of_queries(
    held: int, length: int, window: int | None, sink_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: softmax over the visible keys, query by query; blocks of 4, and the whole square from 8 on."""
    monkeypatch.setattr(attention_reference, "QUERY_BLOCK", 4)
    monkeypatch.setattr(attention_reference, "WHOLE_SQUARE", 8)
    q, k, v = randn(length, 4, 3), randn(held + length, 2, 3), randn(held + length, 2, 5)
    positions = list(range(held + length))
    expected = definitions.attention(q, k, v, positions[held:], positions, 0.7, window, sink_tokens)
    past = Past(k[:held], v[:held], torch.arange(held)) if held else None
    new = (q, k[held:], v[held:])
    visible = Visible(window, sink_tokens)
    found = ops.attention(*new, (past,), (held,), Segments((length,)), scale=0.7, visible=visible)
    assert close(found, expected, RELATIVE_OP[DOUBLE])
