"""Runs of two processes that talk over gloo, against one process."""

import json
from pathlib import Path

import pytest

from tests.tolerances import RELATIVE_LOSS_SPREAD
from tests.train.block_regression import STOPPED_AFTER
from tests.train.distributed_run import train
from tests.train.processes import run_together


def losses(
    processes: int,
    family: str,
    out: Path,
    parallelism: str,
    steps: int,
    context_parallel: int = 1,
    packing: str = "carried",
) -> list[float]:
    """Losses of each step until `steps`, and last the held-out one."""
    told = (family, out, parallelism, steps, context_parallel, packing)
    if processes == 1:
        train(*told)
    else:
        run_together(processes, out.with_suffix(".log"), train, *told)
    return json.loads((out / f"losses-{processes}.json").read_text())


@pytest.mark.parametrize(
    ("family", "parallelism"),
    [("hymba", "fsdp"), ("granitemoehybrid", "fsdp"), ("stripedhyena", "ddp"), ("bamba+frozen", "ddp")],
)
def test_two_processes_go_on_where_one_was_and_back(family: str, parallelism: str, tmp_path: Path) -> None:
    """Oracle: one process all the way, in float32: the losses, and so the gradients and moments, are the same."""
    whole = losses(1, family, tmp_path / "one", parallelism, 6)
    mixed = losses(1, family, tmp_path / "mixed", parallelism, 2)[:-1]
    mixed += losses(2, family, tmp_path / "mixed", parallelism, 4)[:-1]
    mixed += losses(1, family, tmp_path / "mixed", parallelism, 6)
    assert mixed == pytest.approx(whole, rel=RELATIVE_LOSS_SPREAD)


@pytest.mark.parametrize(
    ("family", "parallelism", "processes"),
    [
        ("hymba", "ddp", 2),
        ("stripedhyena", "fsdp", 2),
        ("mamba", "ddp", 3),
        ("bamba", "fsdp", 4),
        ("bamba+lora", "ddp", 2),
        ("bamba+teacher", "fsdp", 2),
        ("hymba+dropout", "ddp", 2),
    ],
)
def test_processes_that_share_a_sequence(family: str, parallelism: str, processes: int, tmp_path: Path) -> None:
    """Oracle: one process, in float32. Documents end within, before and at the end of a part, or fill all parts."""
    whole = losses(1, family, tmp_path / "one", parallelism, 6, 1, "cut")
    shared = losses(processes, family, tmp_path / "shared", parallelism, 6, 2 if processes == 4 else processes, "cut")
    assert shared == pytest.approx(whole, rel=RELATIVE_LOSS_SPREAD)


def test_what_is_stopped_stays_in_all_processes(tmp_path: Path) -> None:
    """Oracles: one process, in float32; the parameters of the stopped block after its stop, which stay as they are."""
    whole = losses(1, "bamba+stopped", tmp_path / "one", "ddp", 6)
    shared = losses(2, "bamba+stopped", tmp_path / "two", "ddp", 6)
    assert shared == pytest.approx(whole, rel=RELATIVE_LOSS_SPREAD)
    early = losses(2, "bamba+stopped", tmp_path / "early", "ddp", STOPPED_AFTER)
    assert shared[7:] == early[STOPPED_AFTER + 1 :] and shared[7:]
