"""Floors of decoding and of prompts."""

import pytest

from braidlm.planner.floor import Rates, decode_floor, prefill_floor, state_traffic, weight_traffic
from braidlm.spec import Attention, Block, Mamba, Mlp, ModelSpec, Moe, Norm
from braidlm.spec.state import FullKV, SharedKV, WindowKV

RATES = Rates(bandwidth=10.0, dtype="bfloat16", products=10.0, float32=100.0)
ATTENTION = Attention(heads=2, kv_heads=1, head_dim=4)
NORM = Norm(eps=1e-5)


def dense(**more: bool) -> ModelSpec:
    """576 weights in the block's matrices, 80 in the embedding and in the head, 24 in norms."""
    block = Block(mixer=ATTENTION, ffn=Mlp(hidden=16))
    return ModelSpec(vocab=10, width=8, blocks=(block,), norm=NORM, **more)


def test_prompt() -> None:
    """Oracle: counted by hand; 4 tokens see 2.5 keys on average in 2 heads of 4 + 4 channels."""
    products, own = 2 * ((576 + 24) * 4 + 80), 4 * 2 * 2 * (4 + 4) * 2.5
    assert prefill_floor(dense(), 4, RATES) == pytest.approx(products / 10 + own / 100)
    assert prefill_floor(dense(tied=True), 4, RATES) == pytest.approx(products / 10 + own / 100)


@pytest.mark.parametrize(("precision", "size"), [("f32", 4), ("bf16", 2), ("int8", 1.0625), ("int4", 0.5625)])
def test_weights_of_a_token(precision: str, size: float) -> None:
    """Oracle: by hand; norms are float32, 32 weights share a scale, an embedding that is no head gives one row."""
    assert weight_traffic(dense(), 1, precision) == pytest.approx((576 + 80 + 8) * size + 24 * 4)
    assert weight_traffic(dense(tied=True), 1, precision) == pytest.approx((576 + 80) * size + 24 * 4)


def test_token() -> None:
    """Oracle: counted by hand; 4 keys and values are read, 1 is written, of 8 channels in bfloat16."""
    state = 5 * 8 * 2
    for rows in (1, 3):
        weights = (576 + 80 + 8 * rows) * 2 + 24 * 4
        assert decode_floor(dense(), 4, rows, "bf16", RATES) == pytest.approx((weights + rows * state) / 10)


def test_experts_that_several_rows_choose() -> None:
    """Oracle: two rows that choose 2 of 4 experts each use 3 of them on average; the shared one always runs."""
    ffn = Moe(experts=4, top_k=2, hidden=6, shared=Mlp(hidden=5))
    spec = ModelSpec(vocab=10, width=8, blocks=(Block(mixer=ATTENTION, ffn=ffn),), norm=NORM, tied=True)
    always = 192 + 80 + 4 * 8 + 3 * 5 * 8
    assert weight_traffic(spec, 2, "bf16") == pytest.approx((always + 3 * 3 * 6 * 8) * 2 + 24 * 4)


def test_recurrent_states_are_read_and_written() -> None:
    """Oracle: counted by hand; a tail of 3 inputs in bfloat16 and 4 states in float32 for 16 channels."""
    spec = ModelSpec(
        vocab=10, width=8, blocks=(Block(mixer=Mamba(inner=16, d_state=4, dt_rank=1)),), norm=NORM, tied=True
    )
    traffic = [state_traffic(slot, 1000, "bfloat16") for slot in spec.state_specs[0]]
    assert traffic == [2 * 16 * 3 * 2, 2 * 16 * 4 * 4]


@pytest.mark.parametrize(("length", "positions"), [(2, 3), (10, 5)])
def test_windows_and_shared_keys(length: int, positions: int) -> None:
    """Oracle: a window of 3 shows 2 earlier keys and 2 sink tokens, and one is written; shared ones cost nothing."""
    sizes = {"heads": 1, "k_dim": 4, "v_dim": 4}
    assert state_traffic(WindowKV(**sizes, window=3, sink_tokens=2), length, "bfloat16") == positions * 16
    assert state_traffic(FullKV(**sizes), length, "bfloat16") == (length + 1) * 16
    assert state_traffic(SharedKV(layer=0), length, "bfloat16") == 0


def test_the_better_of_two_measurements() -> None:
    """Oracle: each number's maximum."""
    other = Rates(bandwidth=9.0, dtype="bfloat16", products=11.0, float32=100.0)
    assert RATES.best(other) == other.best(RATES) == Rates(10.0, "bfloat16", 11.0, 100.0)
