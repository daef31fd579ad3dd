"""Runs of two processes that talk over gloo, against one process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tolerances import RELATIVE_LOSS_SPREAD
from tests.train.distributed_run import main

ROOT = Path(__file__).parents[2]


def losses(
    processes: int, family: str, out: Path, spread: str, steps: int, sequence: int = 1, order: str = "carried"
) -> list[float]:
    """Of each step until `steps`, and last the held-out one."""
    told = (family, str(out), spread, str(steps), str(sequence), order)
    if processes == 1:
        main(*told)
    else:
        run = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes))
        script = ("-m", "tests.train.distributed_run", *told)
        subprocess.run([sys.executable, *run, *script], cwd=ROOT, check=True, timeout=240, capture_output=True)
    return json.loads((out / f"losses-{processes}.json").read_text())


@pytest.mark.parametrize(
    ("family", "spread"), [("hymba", "sharded"), ("granitemoehybrid", "sharded"), ("stripedhyena", "replicated")]
)
def test_two_processes_go_on_where_one_was_and_back(family: str, spread: str, tmp_path: Path) -> None:
    """Oracle: one process all the way, in float32: the losses, and so the gradients and moments, are the same."""
    whole = losses(1, family, tmp_path / "one", spread, 6)
    mixed = losses(1, family, tmp_path / "mixed", spread, 2)[:-1]
    mixed += losses(2, family, tmp_path / "mixed", spread, 4)[:-1]
    mixed += losses(1, family, tmp_path / "mixed", spread, 6)
    assert mixed == pytest.approx(whole, rel=RELATIVE_LOSS_SPREAD)


@pytest.mark.parametrize(
    ("family", "spread", "processes"),
    [
        ("hymba", "replicated", 2),
        ("stripedhyena", "sharded", 2),
        ("mamba", "replicated", 3),
        ("bamba", "sharded", 4),
        ("bamba+lora", "replicated", 2),
    ],
)
def test_processes_that_share_the_tokens_of_a_pack(family: str, spread: str, processes: int, tmp_path: Path) -> None:
    """Oracle: one process, in float32. Documents end within, before and at the end of a part, or fill all parts."""
    whole = losses(1, family, tmp_path / "one", spread, 6, 1, "cut")
    shared = losses(processes, family, tmp_path / "shared", spread, 6, 2 if processes == 4 else processes, "cut")
    assert shared == pytest.approx(whole, rel=RELATIVE_LOSS_SPREAD)
