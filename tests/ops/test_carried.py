"""The operations that carry a state: convolution, selective scan, SSD, gated long convolution."""

import pytest
import torch
from torch import Tensor

from braidlm import ops
from braidlm.ops import Segments
from tests.ops import definitions
from tests.ops.carried import CASES, Case, cast, close, randn, run, states
from tests.tolerances import RELATIVE_FFT, RELATIVE_LONG, RELATIVE_OP

# Odd lengths: below the convolution, around chunks of 64, rows without tokens, equal rows apart.
RAGGED = [(1,), (2,), (3,), (63,), (64,), (65,), (100,), (129,), (5, 5), (1, 7, 1), (0, 3, 0), (70, 0, 2, 70, 1)]


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("lengths", RAGGED)
def test_packed_rows(case: Case, lengths: tuple[int, ...], dtype: torch.dtype) -> None:
    """Oracle: the sequential definition in float64, row by row, from a state that is not zero."""
    segments = Segments(lengths)
    inputs, state = case.inputs(segments.total), states(case, len(lengths))
    found = run(case, inputs, state, segments, dtype)
    tolerance = (RELATIVE_FFT if case.complex_state else RELATIVE_OP)[dtype]
    for row, length in enumerate(lengths):
        part = slice(segments.starts[row], segments.starts[row + 1])
        if not length:
            assert torch.equal(found.state_R[row], cast(state[row], dtype))
            continue
        y, after = case.define(*(t[part] for t in inputs), *case.fixed, state[row])
        assert close(found.y_T[part], y, tolerance)
        assert close(found.state_R[row], after, tolerance)


@pytest.mark.parametrize("lengths", [(65, 3, 65), (1, 1), (7, 130)])
def test_a_row_is_computed_as_it_would_be_alone(case: Case, lengths: tuple[int, ...]) -> None:
    """Oracle: the same operation on each row alone."""
    segments = Segments(lengths)
    inputs, state = case.inputs(segments.total), states(case, len(lengths))
    together = run(case, inputs, state, segments, torch.float32)
    for row, length in enumerate(lengths):
        part = slice(segments.starts[row], segments.starts[row + 1])
        alone = run(case, tuple(t[part] for t in inputs), state[row : row + 1], Segments((length,)), torch.float32)
        assert close(together.y_T[part], alone.y_T, RELATIVE_OP[torch.float32])
        assert close(together.state_R[row], alone.state_R[0], RELATIVE_OP[torch.float32])


def test_marks_are_the_states_of_prefixes(case: Case) -> None:
    """Oracle: the same operation stopped at each mark."""
    lengths, snapshot_positions = (70, 9, 70), ((1, 64, 70), (), (3,))
    segments = Segments(lengths, snapshot_positions)
    inputs, state = case.inputs(segments.total), states(case, 3)
    found = run(case, inputs, state, segments, torch.float64)
    whole = run(case, inputs, state, Segments(lengths), torch.float64)
    assert close(found.y_T, whole.y_T, RELATIVE_FFT[torch.float64])
    assert [len(of_row) for of_row in found.snapshots] == [3, 0, 1]
    for row, offsets in enumerate(snapshot_positions):
        for mark, offset in enumerate(offsets):
            part = slice(segments.starts[row], segments.starts[row] + offset)
            prefix = run(case, tuple(t[part] for t in inputs), state[row : row + 1], Segments((offset,)), torch.float64)
            assert close(found.snapshots[row][mark], prefix.state_R[0], RELATIVE_FFT[torch.float64])


@pytest.mark.parametrize("lengths", [(5,), (1, 4)])
def test_gradients(case: Case, lengths: tuple[int, ...]) -> None:
    """Oracle: finite differences in float64, through inputs, weights, initial and final states."""
    segments = Segments(lengths)
    tensors = [*case.inputs(segments.total), *case.fixed, states(case, len(lengths))]
    present = [t for t in tensors if t is not None]
    if case.complex_state:  # the angle of a pole of zero has no gradient
        present[2] = torch.where(present[2] == 0, torch.full_like(present[2], 0.3 + 0.2j), present[2])
    leaves = [t.clone().requires_grad_() for t in present]

    def function(*given: Tensor) -> tuple[Tensor, Tensor]:
        rest = iter(given)
        carried = case.call(*(None if t is None else next(rest) for t in tensors), segments)
        return carried.y_T, carried.state_R

    assert torch.autograd.gradcheck(function, leaves)


@pytest.mark.parametrize("dt", [20.0, 1e-4, "mixed"])
@pytest.mark.parametrize("kind", ["selective scan", "ssd"])
def test_extreme_decays(kind: str, dt: float | str) -> None:
    """Oracle: the definition in float64 at A = -16, time steps of 20 (and tiny, and both), 4,096 tokens."""
    length = 4096
    step = torch.where(torch.rand(length, 4) < 0.5, 20.0, 1e-4) if dt == "mixed" else torch.full((length, 4), dt)
    step, a = step.double(), torch.full((4,), -16.0, dtype=torch.float64)
    if kind == "ssd":
        tensors = (randn(length, 4, 2), step, a, randn(length, 1, 3), randn(length, 1, 3), randn(4))
        state, op, definition = randn(1, 4, 2, 3), ops.ssd, definitions.ssd
    else:
        tensors = (randn(length, 4), step, a[:, None].expand(4, 3), randn(length, 3), randn(length, 3), randn(4))
        state, op, definition = randn(1, 4, 3), ops.selective_scan, definitions.selective_scan
    y, after = definition(*tensors, state[0])
    found = op(*(t.float() for t in tensors), state.float(), Segments((length,)))
    tolerance = RELATIVE_LONG if dt == 1e-4 else RELATIVE_OP[torch.float32]
    assert close(found.y_T, y, tolerance)
    assert close(found.state_R[0], after, tolerance)


def test_long_filter_with_poles_on_the_unit_circle() -> None:
    """Oracle: the recurrence in float64 over 4,096 tokens, where float32 phases would have drifted."""
    length = 4096
    poles = torch.polar(torch.ones(4, 2, dtype=torch.float64), randn(4, 2))
    residues = torch.complex(randn(4, 2), randn(4, 2))
    tensors = (randn(length, 4), randn(length, 4), poles, residues, randn(4))
    state = torch.complex(randn(1, 4, 2), randn(1, 4, 2))
    y, after = definitions.gated_conv(*tensors, state[0])
    found = ops.gated_conv(*(cast(t, torch.float32) for t in (*tensors, state)), Segments((length,)))
    assert close(found.y_T, y, RELATIVE_LONG)
    assert close(found.state_R[0], after, RELATIVE_LONG)
