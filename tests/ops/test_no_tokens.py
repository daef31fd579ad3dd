"""Batches in which no row has a new token: empty outputs, states as they were."""

import pytest
import torch

from braidlm import ops
from braidlm.ops import Past, Segments, Visible
from tests.ops.carried import CASES, run, states


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("rows", [1, 3])
def test_states_stay(name: str, rows: int) -> None:
    """Oracle: the definition of a recurrence: no step, the same state bit for bit."""
    case = CASES[name]()
    state = states(case, rows)
    found = run(case, case.inputs(0), state, Segments((0,) * rows), torch.float64)
    assert found.y_T.shape[0] == 0
    assert torch.equal(found.state_R, state)
    assert found.snapshots == ((),) * rows


@pytest.mark.parametrize("held", [0, 2])
def test_attention(held: int) -> None:
    """Oracle: the shape of no queries."""
    q, k, v = torch.zeros(0, 4, 3), torch.zeros(0, 2, 3), torch.zeros(0, 2, 5)
    past = Past(torch.ones(held, 2, 3), torch.ones(held, 2, 5), torch.arange(held)) if held else None
    rows = ((past, None), (held, 0), Segments((0, 0)))
    assert ops.attention(q, k, v, *rows, scale=1.0, visible=Visible(None, 0)).shape == (0, 4, 5)


def test_experts() -> None:
    """Oracle: the shape of no tokens."""
    weights = (torch.ones(3, 4), torch.ones(3, 6, 4), torch.ones(3, 4, 3))
    assert ops.moe(torch.zeros(0, 4), *weights, top_k=2).shape == (0, 4)
