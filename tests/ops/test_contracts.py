"""What every operation that carries a state promises besides its numbers.

Splits, snapshots, rows that do not see each other, inputs that are left alone, outputs that own their
memory, and the dtypes of what comes back.
"""

from itertools import pairwise

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from braidlm.ops import Carried, Segments
from tests.ops.carried import CASES, Case, cast, close, run, states
from tests.tolerances import RELATIVE_FFT, RELATIVE_OP

DOUBLE, SINGLE = torch.float64, torch.float32
LENGTH = 130
RAGGED = (65, 0, 3, 65, 1)

properties = settings(max_examples=15, deadline=None, derandomize=True)
cuts = st.lists(st.one_of(st.integers(1, LENGTH - 1), st.sampled_from([1, 63, 64, 65])), max_size=5, unique=True)


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]()


def tolerance_of(case: Case, dtype: torch.dtype) -> float:
    return (RELATIVE_FFT if case.complex_state else RELATIVE_OP)[dtype]


def parts_of(inputs: tuple[Tensor, ...], begin: int, end: int) -> tuple[Tensor, ...]:
    return tuple(t[begin:end] for t in inputs)


def in_pieces(case: Case, inputs: tuple[Tensor, ...], state: Tensor, ends: list[int]) -> tuple[Tensor, Tensor]:
    outputs = []
    for begin, end in pairwise([0, *ends]):
        carried = run(case, parts_of(inputs, begin, end), state, Segments((end - begin,)), DOUBLE)
        state = carried.state_R
        outputs.append(carried.y_T)
    return torch.cat(outputs), state


def test_any_split_gives_the_same(case: Case) -> None:
    """Oracle: the whole row in one call, in float64; splits drawn at random, and token by token."""
    inputs, state = case.inputs(LENGTH), states(case, 1)
    whole = run(case, inputs, state, Segments((LENGTH,)), DOUBLE)

    @properties
    @given(cuts)
    @example(list(range(1, LENGTH)))
    def check(at: list[int]) -> None:
        y, after = in_pieces(case, inputs, state, [*sorted(at), LENGTH])
        assert close(y, whole.y_T, tolerance_of(case, DOUBLE))
        assert close(after, whole.state_R, tolerance_of(case, DOUBLE))

    check()


@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE])
def test_marks_change_nothing_else(case: Case, dtype: torch.dtype) -> None:
    """Oracle: the same call without snapshots: outputs and final states; a snapshot at the end is the final state."""
    snapshot_positions = ((1, 2, 64), (), (3,), (65,), (1,))
    inputs, state = case.inputs(sum(RAGGED)), states(case, len(RAGGED))
    plain = run(case, inputs, state, Segments(RAGGED), dtype)
    found = run(case, inputs, state, Segments(RAGGED, snapshot_positions), dtype)
    assert close(found.y_T.double(), plain.y_T.double(), tolerance_of(case, dtype))
    assert close(found.state_R, plain.state_R, tolerance_of(case, dtype))
    assert plain.snapshots == ((),) * len(RAGGED)
    for row in (2, 3, 4):
        assert torch.equal(found.snapshots[row][-1], found.state_R[row])


@pytest.mark.parametrize("lengths", [RAGGED, (7, 7, 7)])
def test_rows_do_not_see_each_other(case: Case, lengths: tuple[int, ...]) -> None:
    """Oracle: the same batch with one row full of NaN, state included; the other rows keep every bit."""
    segments = Segments(lengths)
    inputs, state = case.inputs(segments.total), states(case, len(lengths))
    clean = run(case, inputs, state, segments, SINGLE)
    for spoiled in range(len(lengths)):
        part = slice(segments.starts[spoiled], segments.starts[spoiled + 1])
        bad_inputs, bad_state = [t.clone() for t in inputs], state.clone()
        for tensor in bad_inputs:
            tensor[part] = torch.nan
        bad_state[spoiled] = torch.nan
        found = run(case, tuple(bad_inputs), bad_state, segments, SINGLE)
        assert found.y_T[part].isnan().all()
        others = [row for row in range(len(lengths)) if row != spoiled]
        assert torch.equal(found.state_R[others], clean.state_R[others])
        found.y_T[part] = clean.y_T[part]
        assert torch.equal(found.y_T, clean.y_T)


@pytest.mark.parametrize("lengths", [(5,), (1,), (5, 5), RAGGED])
def test_inputs_are_left_alone(case: Case, lengths: tuple[int, ...]) -> None:
    """Oracle: copies of all inputs, before the call and after its results were overwritten."""
    segments = Segments(lengths, tuple((1,) if n else () for n in lengths))
    inputs = [*case.inputs(segments.total), *case.fixed, states(case, len(lengths))]
    copies = [None if t is None else t.clone() for t in inputs]
    carried = case.call(*inputs, segments)
    for made in (carried.y_T, carried.state_R, *(at for of_row in carried.snapshots for at in of_row)):
        made.zero_()
    for tensor, copy in zip(inputs, copies, strict=True):
        assert tensor is None or torch.equal(tensor, copy)


def test_a_final_state_keeps_no_sequence_alive(case: Case) -> None:
    """Oracle: the bytes of the state itself against those of the memory under it."""
    inputs, state = case.inputs(500), states(case, 1)
    carried = run(case, inputs, state, Segments((500,)), SINGLE)
    assert carried.state_R.untyped_storage().nbytes() == carried.state_R.nbytes


def spread(t: Tensor | None) -> Tensor | None:
    """The same numbers with gaps between them in memory, and the last two dimensions swapped in it."""
    if t is None or t.dim() < 2:
        return t
    wide = t.new_empty(*t.shape[:-2], t.shape[-1], 2 * t.shape[-2])
    view = wide.transpose(-1, -2)[..., ::2, :]
    view.copy_(t)
    return view


@pytest.mark.parametrize("lengths", [(1,), (70,), RAGGED])
def test_views_are_as_good_as_copies(case: Case, lengths: tuple[int, ...]) -> None:
    """Oracle: the same call on contiguous tensors; mixers hand over slices of a projection."""
    segments = Segments(lengths)
    tensors = [*case.inputs(segments.total), *case.fixed, states(case, len(lengths))]
    expected = case.call(*tensors, segments)
    found = case.call(*map(spread, tensors), segments)
    assert close(found.y_T, expected.y_T, tolerance_of(case, DOUBLE))
    assert close(found.state_R, expected.state_R, tolerance_of(case, DOUBLE))


def narrow(case: Case, segments: Segments) -> tuple[Carried, Carried]:
    """The operation on bfloat16 inputs, and on the same numbers in float32."""
    inputs = tuple(t.bfloat16() for t in case.inputs(segments.total))
    fixed = [cast(t, SINGLE) for t in case.fixed]
    state = cast(states(case, len(segments.lengths)), SINGLE)
    tail = len(inputs) == 1  # only a convolution's state is in its input's dtype
    state = state.bfloat16() if tail else state
    wide = state.float() if tail else state
    found = case.call(*inputs, *fixed, state, segments)
    return found, case.call(*(t.float() for t in inputs), *fixed, wide, segments)


@pytest.mark.parametrize("lengths", [(1,), (70,), RAGGED])
def test_narrow_inputs_are_widened_first(case: Case, lengths: tuple[int, ...]) -> None:
    """Oracle: the same numbers in float32, bit for bit; results of x's dtype are rounded once, at the end."""
    found, wide = narrow(case, Segments(lengths))
    assert found.y_T.dtype == (torch.bfloat16 if case.y_like_x else SINGLE)
    assert torch.equal(found.y_T, wide.y_T.to(found.y_T.dtype))
    assert torch.equal(found.state_R, wide.state_R.to(found.state_R.dtype))


def test_dtypes_follow_the_state(case: Case) -> None:
    """Oracle: the documented rule: float64 (complex128) in and out, float32 (complex64) otherwise."""
    for dtype in (SINGLE, DOUBLE):
        state = states(case, 2)
        found = run(case, case.inputs(8), state, Segments((3, 5)), dtype)
        assert found.y_T.dtype == dtype
        assert found.state_R.dtype == cast(state, dtype).dtype
        assert found.state_R.shape == state.shape
