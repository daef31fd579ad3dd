"""Runs of two processes that talk over gloo, against one process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tolerances import RELATIVE_LOSS_SPREAD
from tests.train.distributed_run import main

ROOT = Path(__file__).parents[2]


def losses(processes: int, family: str, out: Path, spread: str, steps: int) -> list[float]:
    if processes == 1:
        main(family, str(out), spread, str(steps))
    else:
        run = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes))
        script = ("-m", "tests.train.distributed_run", family, str(out), spread, str(steps))
        subprocess.run([sys.executable, *run, *script], cwd=ROOT, check=True, timeout=240, capture_output=True)
    return json.loads((out / f"losses-{processes}.json").read_text())


@pytest.mark.parametrize(
    ("family", "spread"), [("hymba", "sharded"), ("granitemoehybrid", "sharded"), ("stripedhyena", "replicated")]
)
def test_two_processes_go_on_where_one_was_and_back(family: str, spread: str, tmp_path: Path) -> None:
    """Oracle: one process all the way, in float32: the losses, and so the gradients and moments, are the same."""
    whole = losses(1, family, tmp_path / "one", spread, 6)
    mixed = losses(1, family, tmp_path / "mixed", spread, 2)
    mixed += losses(2, family, tmp_path / "mixed", spread, 4)
    mixed += losses(1, family, tmp_path / "mixed", spread, 6)
    assert mixed == pytest.approx(whole, rel=RELATIVE_LOSS_SPREAD)
