"""Forecasts of speed, by a calibration whose numbers are easy to reckon with."""

from dataclasses import replace

import pytest
import torch

from braidlm.planner.forecast import SpeedModel, covers
from braidlm.spec import Attention, Block, Mamba, Mlp, ModelSpec, Moe, Norm, Parallel
from braidlm.state.sequence import Precision
from tests.families.tiny import TINY, tiny
from tests.planner.measured import MEASURED

BF16 = Precision.of(torch.bfloat16)
ATTENTION = Attention(heads=2, kv_heads=1, head_dim=4)
NORM = Norm(eps=1e-5)
# 576 weights in the block's matrices, 80 in the embedding and in the head.
DENSE = ModelSpec(vocab=10, width=8, blocks=(Block(mixer=ATTENTION, ffn=Mlp(hidden=16)),), norm=NORM)
# The step, the mixer and the feed-forward.
OWN = 7 + 5 + 3


@pytest.mark.parametrize("rows", [1, 4, 16])
def test_decode_of_a_dense_model(rows: int) -> None:
    """Oracle: by hand; every weight but the embedding for each row, and 5 keys and values of 8 channels."""
    seconds = SpeedModel(DENSE, BF16, {}, MEASURED).step_seconds(4, rows)
    assert seconds == pytest.approx(OWN + (576 + 80) * rows + rows * 5 * 8 * 2 / 10)


def test_decode_of_more_rows_than_are_measured() -> None:
    """Oracle: by hand; twice the seconds of 16 rows, but for weights, which are measured up to 256."""
    seconds = SpeedModel(DENSE, BF16, {}, MEASURED).step_seconds(4, 32)
    assert seconds == pytest.approx(2 * OWN + (576 + 80) * 32 + 32 * 5 * 8 * 2 / 10)


def test_prefill_of_a_dense_model() -> None:
    """Oracle: by hand; the head for one row, 8 channels of 4 tokens, 2.5 keys on average in 2 heads of 4 + 4."""
    seconds = SpeedModel(DENSE, BF16, {}, MEASURED).prefill_seconds(4)
    assert seconds == pytest.approx(576 * 4 + 80 + 2 * 4 * 8 + 4 * 2 * 2 * (4 + 4) * 2.5 / 100)


def test_quantized_weights() -> None:
    """Oracle: by hand; the head alone in int8, which takes a tenth."""
    seconds = SpeedModel(DENSE, BF16, {"head.weight": "int8"}, MEASURED).step_seconds(4, 1)
    assert seconds == pytest.approx(OWN + 576 + 8 + 8)


def test_experts() -> None:
    """Oracle: each row multiplies by 2 of 4 experts of 144 weights, by the router of 32 and attention of 192."""
    ffn = Moe(experts=4, top_k=2, hidden=6)
    spec = ModelSpec(vocab=10, width=8, blocks=(Block(mixer=ATTENTION, ffn=ffn),), norm=NORM, tied=True)
    measured = replace(MEASURED, kv={"bfloat16": (0.0, 0.0, 0.0)})
    for rows in (1, 2, 8):
        seconds = SpeedModel(spec, BF16, {}, measured).step_seconds(4, rows)
        assert seconds == pytest.approx(OWN + rows * (80 + 192 + 32 + 2 * 144))


def test_branches_and_shared_keys() -> None:
    """Oracle: by hand; both branches of both blocks, and the first block's keys and values, read twice.

    A state space of 16 channels has a tail of 3 inputs in bfloat16 and 4 states in float32, read and written.
    """
    ssm = Mamba(inner=16, d_state=4, dt_rank=1)
    attention = Attention(heads=2, kv_heads=1, head_dim=8)
    blocks = tuple(Block(mixer=Parallel(attention=replace(attention, kv_from=owner), ssm=ssm)) for owner in (None, 0))
    spec = ModelSpec(vocab=10, width=8, blocks=blocks, norm=NORM, tied=True)
    measured = replace(MEASURED, weights={"bfloat16": (0.0,) * 4})
    seconds = SpeedModel(spec, BF16, {}, measured).step_seconds(4, 1)
    recurrent = 2 * 16 * (3 * 2 + 4 * 4)
    assert seconds == pytest.approx(7 + 4 * 5 + 2 * (0.2 * recurrent + 0.1 * 5 * 16 * 2))


@pytest.mark.parametrize("family", TINY)
def test_every_family_has_a_forecast(family: str) -> None:
    """Oracle: positive numbers; none where one rate that the family needs was not measured."""
    spec = tiny(family, 0)
    assert covers(MEASURED, spec, BF16, {})
    model = SpeedModel(spec, BF16, {}, MEASURED)
    assert model.step_seconds(64, 2) > 0
    assert model.prefill_seconds(64) > 0
    assert not covers(replace(MEASURED, blocks={}), spec, BF16, {})
    assert not covers(MEASURED, spec, Precision.of(torch.float64), {})
    assert not covers(replace(MEASURED, weights={"bfloat16": (1.0,) * 4}), spec, BF16, {"head.weight": "int4-low"})
