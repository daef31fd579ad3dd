"""Measurement of a machine, in tiny sizes, and the states that it fills."""

from typing import get_args

import pytest
import torch

import braidlm
from braidlm.planner.calibration import ROWS, STEP_ROWS
from braidlm.planner.forecast import covers
from braidlm.planner.measurement import Sizes, measure, prompt_cost
from braidlm.planner.probe_models import FEED_FORWARDS, MIXERS
from braidlm.planner.synthetic_state import synthetic_state
from braidlm.spec import Mixer, parts_of
from braidlm.spec.feed_forward import FeedForward
from braidlm.state.sequence import Precision
from tests.families.tiny import TINY, tiny

TINIEST = Sizes(
    width=128, hidden=64, inner=256, few=1, many=2, blocks=1, positions=20, prompts=(5, 10), runs=1, long_runs=1
)


def test_all_that_families_are_made_of() -> None:
    """Oracle: the tables of kinds, numbers for each number of rows, and every tiny family with quantized weights."""
    found = measure(TINIEST)
    assert found.blocks.keys() == {*MIXERS, *FEED_FORWARDS}
    assert {len(seconds) for seconds in found.weights.values()} == {len(ROWS)}
    for table in (found.blocks, found.states, found.kv):
        assert {len(seconds) for seconds in table.values()} == {len(STEP_ROWS)}
    assert all(min(seconds) > 0 for table in (found.weights, found.states, found.kv) for seconds in table.values())
    assert found.process_bytes > 0
    kinds = {"embed.weight": "int8", "blocks.0": "int4-low", "blocks.1": "fp8"}
    for family in TINY:
        for kv_dtype in ("bfloat16", "int8", "fp8"):
            assert covers(found, tiny(family, 0), Precision.of(torch.bfloat16, kv_dtype), kinds)


def test_every_kind_is_measured() -> None:
    """Oracle: the tables of kinds that a block may have; mixers that are made of others are their parts."""
    assert FEED_FORWARDS.keys() == {kind.__name__ for kind in get_args(FeedForward)}
    assert MIXERS.keys() == {kind.__name__ for kind in get_args(Mixer)} - {"Parallel"}
    mixers = [block.mixer for family in TINY for block in tiny(family, 0).blocks]
    assert {type(part).__name__ for mixer in mixers for part in parts_of(mixer)} == MIXERS.keys()


@pytest.mark.parametrize(
    ("light", "heavy", "cost"),
    [
        ((10, 100, 2.0), (40, 1600, 23.0), (0.075, 0.0125)),
        ((10, 100, 1.0), (10, 400, 1.6), (0.08, 0.002)),
        ((10, 100, 1.0), (10, 400, 9.0), (0.0, 0.02)),
        ((10, 100, 1.0), (10, 400, 0.5), (0.075, 0.0)),
    ],
)
def test_cost_of_a_prompt(
    light: tuple[float, float, float], heavy: tuple[float, float, float], cost: tuple[float, float]
) -> None:
    """Oracle: the two equations; where a part would be less than nothing, the other part alone for both."""
    assert tuple(prompt_cost(light, heavy)) == pytest.approx(cost)


@pytest.mark.parametrize("kv_dtype", ["bfloat16", "int8"])
@pytest.mark.parametrize("family", TINY)
def test_synthetic_states(family: str, kv_dtype: str) -> None:
    """Oracle: the bytes of a state that the model itself has left after so many tokens, and it goes on from there."""
    model = braidlm.build(tiny(family, 0), dtype="bfloat16")
    length = 150
    state = model.new_state(kv_dtype=kv_dtype)
    made = synthetic_state(state.sequences[0], length, torch.bfloat16)
    model.forward(torch.ones(1, length, dtype=torch.int64), state=state)
    read = state.sequences[0]
    assert [layer.nbytes for layer in made.layers] == [layer.nbytes for layer in read.layers]
    assert (made.length, made.ahead, made.identity) == (read.length, read.ahead, read.identity)
    state.set_sequence(0, made)
    logits = model.forward(torch.ones(1, 1, dtype=torch.int64), state=state)
    assert state.lengths == (length + 1,)
    assert torch.isfinite(logits).all()
