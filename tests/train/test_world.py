"""Runs of two processes that talk over gloo, against one process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tolerances import RELATIVE_LOSS_SPREAD

ROOT = Path(__file__).parents[2]


def losses(processes: int, family: str, out: Path, spread: str, steps: int) -> list[float]:
    script = ("-m", "tests.train.distributed_run", family, str(out), spread, str(steps))
    start = ("-m", "torch.distributed.run", "--nproc_per_node", "2", "--rdzv_backend", "c10d") if processes == 2 else ()
    subprocess.run([sys.executable, *start, *script], cwd=ROOT, check=True, timeout=120, capture_output=True)
    return json.loads((out / f"losses-{processes}.json").read_text())


@pytest.mark.parametrize(
    ("family", "spread"), [("hymba", "sharded"), ("granitemoehybrid", "sharded"), ("stripedhyena", "replicated")]
)
def test_two_processes_learn_what_one_does(family: str, spread: str, tmp_path: Path) -> None:
    """Oracle: one process in float32; then two go on from the checkpoint of one, and one from that of two."""
    whole = losses(1, family, tmp_path / "one", spread, 6)
    assert losses(2, family, tmp_path / "two", spread, 6) == pytest.approx(whole, rel=RELATIVE_LOSS_SPREAD)
    mixed = losses(1, family, tmp_path / "mixed", spread, 2)
    mixed += losses(2, family, tmp_path / "mixed", spread, 4)
    mixed += losses(1, family, tmp_path / "mixed", spread, 6)
    assert mixed == pytest.approx(whole, rel=RELATIVE_LOSS_SPREAD)
