"""Native operations that carry a state, at every level: odd sizes, strides, ragged rows, threads."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from braidlm.ops import Carried, Segments, dispatch
from tests.ops.carried import Case, cast, close, states
from tests.ops.levels import LEVELS, at_level
from tests.ops.native_cases import CASES, sliced
from tests.tolerances import RELATIVE_FFT, RELATIVE_OP, RELATIVE_ROUNDED

SINGLE, NARROW = torch.float32, torch.bfloat16
LENGTHS = [(1,), (2,), (3,), (5,), (6,), (7,), (63,), (64,), (65,), (129,), (9, 9), (0, 70, 2, 70, 1), (0, 3, 0)]


@pytest.fixture(params=LEVELS)
def level(request: pytest.FixtureRequest) -> Iterator[str]:
    with at_level(request.param), dispatch.using("native"):
        yield request.param


def run(case: Case, inputs: tuple[Tensor, ...], state: Tensor, segments: Segments, dtype: torch.dtype) -> Carried:
    """The operation on inputs of `dtype`; a convolution's state is of that dtype too."""
    narrow = [t.to(dtype) for t in inputs]
    held = state.to(dtype) if len(inputs) == 1 else cast(state, SINGLE)
    return case.call(*narrow, *(cast(t, SINGLE) for t in case.fixed), held, segments)


def rounded(t: Tensor, dtype: torch.dtype) -> Tensor:
    return t.to(dtype).double()


@pytest.mark.parametrize("dtype", [SINGLE, NARROW])
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("name", CASES)
def test_any_sizes(name: str, lengths: tuple[int, ...], dtype: torch.dtype, level: str) -> None:
    """Oracle: the definition in float64 on the same rounded numbers, row by row, from a state that is not zero."""
    case, segments = CASES[name](), Segments(lengths)
    inputs, state = tuple(sliced(t) for t in case.inputs(segments.total)), states(case, len(lengths))
    convolution = len(inputs) == 1
    state = rounded(state, dtype) if convolution else state
    found = run(case, inputs, state, segments, dtype)
    exact = (RELATIVE_FFT if case.complex_state else RELATIVE_OP)[SINGLE]
    tolerance = RELATIVE_ROUNDED[NARROW] if case.y_like_x and dtype == NARROW else exact
    assert found.y_T.dtype == (dtype if case.y_like_x else SINGLE)
    for row, length in enumerate(lengths):
        part = slice(segments.starts[row], segments.starts[row + 1])
        if not length:
            assert torch.equal(found.state_R[row], cast(state[row], SINGLE).to(found.state_R.dtype))
            continue
        y, after = case.define(*(rounded(t[part], dtype) for t in inputs), *case.fixed, state[row])
        assert close(found.y_T[part].double(), y, tolerance)
        assert close(found.state_R[row], after, exact)


@pytest.mark.parametrize("name", CASES)
def test_marks(name: str, level: str) -> None:
    """Oracle: the definition in float64 on each marked prefix."""
    case, segments = CASES[name](), Segments((70, 9, 70), ((1, 64, 70), (), (3,)))
    inputs, state = case.inputs(segments.total), states(case, 3)
    found = run(case, inputs, state, segments, SINGLE)
    exact = (RELATIVE_FFT if case.complex_state else RELATIVE_OP)[SINGLE]
    for row in (0, 2):
        for mark, offset in enumerate(segments.snapshot_positions_of(row)):
            part = slice(segments.starts[row], segments.starts[row] + offset)
            _, after = case.define(*(t[part] for t in inputs), *case.fixed, state[row])
            assert close(found.snapshots[row][mark], after, exact)


@pytest.mark.parametrize("name", CASES)
def test_the_number_of_threads_changes_nothing(name: str, level: str) -> None:
    """Oracle: the same call with one thread, bit for bit."""
    case, segments = CASES[name](), Segments((150, 9, 9))
    inputs, state = case.inputs(segments.total), states(case, 3)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(run(case, inputs, state, segments, SINGLE))
    finally:
        torch.set_num_threads(before)
    for result in results[1:]:
        assert torch.equal(result.y_T, results[0].y_T)
        assert torch.equal(result.state_R, results[0].state_R)


@pytest.mark.parametrize("name", ["scan", "ssd"])
def test_decays_that_leave_nothing(name: str, level: str) -> None:
    """Oracle: the definition in float64 at time steps from 1e-6 to 100, so that decays underflow here and there."""
    case, segments = CASES[name](), Segments((200,))
    x, dt, b, c = case.inputs(200)
    inputs, state = (x, 10 ** (8 * torch.rand(dt.shape).double() - 6), b, c), states(case, 1)
    y, after = case.define(*(rounded(t, SINGLE) for t in inputs), *case.fixed, state[0])
    found = run(case, inputs, state, segments, SINGLE)
    assert close(found.y_T, y, RELATIVE_OP[SINGLE])
    assert close(found.state_R[0], after, RELATIVE_OP[SINGLE])
