"""Calibrations, and the forecasts that are made of them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from braidlm.errors import InputError
from braidlm.planner import calibration
from braidlm.planner.forecast import SpeedModel
from braidlm.spec import Attention, Block, Mlp, ModelSpec, Moe, Norm
from braidlm.state.sequence import Precision
from tests.planner.measured import MEASURED

BF16 = Precision.of(torch.bfloat16)
ATTENTION = Attention(heads=2, kv_heads=1, head_dim=4)
# 576 weights in the block's matrices, 80 in the embedding and in the head.
DENSE = ModelSpec(vocab=10, width=8, blocks=(Block(mixer=ATTENTION, ffn=Mlp(hidden=16)),), norm=Norm(eps=1e-5))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.mark.parametrize(("rows", "seconds"), [(1, 1.0), (2, 3.0), (4, 7.0), (16, 8.0), (136, 16.0), (512, 48.0)])
def test_rows_between_measured_ones(rows: int, seconds: float) -> None:
    """Oracle: lines between 1, 7, 8 and 24 seconds at 1, 4, 16 and 256 rows, and twice the last at twice its rows."""
    measured = replace(MEASURED, weight_seconds={"int8": (1.0, 7.0, 8.0, 24.0)})
    assert measured.seconds_of_weight("int8", rows) == pytest.approx(seconds)


def test_the_cache_of_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: what was saved; another machine has none, and its own stands beside."""
    assert calibration.saved() is None
    file = calibration.save(MEASURED)
    assert calibration.saved() == MEASURED
    monkeypatch.setattr(
        calibration, "machine", lambda: dict.fromkeys(("processor", "cores", "memory", "torch", "braidlm"))
    )
    assert calibration.saved() is None
    calibration.save(replace(MEASURED, bandwidth=1.0))
    assert len(json.loads(file.read_text())) == 2


def test_a_cache_that_is_none() -> None:
    """Oracle: the sentence."""
    file = calibration.save(MEASURED)
    (key,) = json.loads(file.read_text())
    file.write_text(json.dumps({key: {"weight_seconds": {}}}))
    with pytest.raises(InputError, match="is no calibration of this version; run braid plan --calibrate"):
        calibration.saved()


@pytest.mark.parametrize("rows", [1, 4, 300])
def test_decode_of_a_dense_model(rows: int) -> None:
    """Oracle: by hand; every weight but the embedding for each row, and 5 keys and values of 8 channels, 10 B/s."""
    seconds = SpeedModel(DENSE, BF16, {}, MEASURED).step_seconds(4, rows)
    assert seconds == pytest.approx((576 + 80) * rows + rows * 5 * 8 * 2 / 10)


def test_prefill_of_a_dense_model() -> None:
    """Oracle: by hand; the head for one row alone, and 2.5 keys on average in 2 heads of 4 + 4 channels."""
    seconds = SpeedModel(DENSE, BF16, {}, MEASURED).prefill_seconds(4)
    assert seconds == pytest.approx(576 * 4 + 80 + 4 * 2 * 2 * (4 + 4) * 2.5 / 100)


def test_quantized_weights() -> None:
    """Oracle: by hand; the head alone in int8, which takes a tenth."""
    seconds = SpeedModel(DENSE, BF16, {"head.weight": "int8"}, MEASURED).step_seconds(4, 1)
    assert seconds == pytest.approx(576 + 8 + 8)


def test_experts() -> None:
    """Oracle: each row multiplies by 2 of 4 experts of 144 weights, by the router of 32 and attention of 192."""
    ffn = Moe(experts=4, top_k=2, hidden=6)
    spec = ModelSpec(vocab=10, width=8, blocks=(Block(mixer=ATTENTION, ffn=ffn),), norm=Norm(eps=1e-5), tied=True)
    for rows in (1, 2, 8):
        seconds = SpeedModel(spec, BF16, {}, replace(MEASURED, bandwidth=1e12)).step_seconds(4, rows)
        assert seconds == pytest.approx(rows * (80 + 192 + 32 + 2 * 144))
