"""Signals to real runs: Ctrl-C and SIGTERM, one process and several."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from braidlm.ops.threads import on_threads
from braidlm.train import checkpoints, training_log
from tests.cli.commands import braid

STEPS = 24


def default_signals() -> None:
    """Shells start background processes, of which these tests may be part, with some signals ignored."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def train(out: str) -> list[str]:
    """Arguments of `braid` for the run, whose output is in a directory of that name."""
    changes = {
        "run.out": out, "stages.0.steps": STEPS, "run.sample": 0, "run.evaluate": 1, "run.checkpoint": 0,
        "data.eval_tokens": 128, "run.tensorboard": "false",
    }  # fmt: skip
    return ["train", "run.toml", *(word for name, value in changes.items() for word in ("--set", f"{name}={value}"))]


def start(place: Path, arguments: list[str], processes: int = 1) -> "subprocess.Popen[str]":
    several = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes))
    command = [sys.executable, *(several if processes > 1 else ()), "-m", "braidlm", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=place, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=default_signals,
    )  # fmt: skip


def wait_for_steps(process: "subprocess.Popen[str]", log: Path, steps: int) -> None:
    while len(training_log.read_log(log)) < steps:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def losses(log: Path, name: str = "loss") -> list[tuple[int, float]]:
    return [(line["step"], line[name]) for line in training_log.read_log(log) if name in line]


def stopped(process: "subprocess.Popen[str]", place: Path, number: int, steps: int) -> tuple[int, list[str], str]:
    """A run that a signal stops after `steps` steps: the step, the arguments that it says go on, and what it printed;
    with the exit code of a shell.
    """
    wait_for_steps(process, place / "out" / "log.jsonl", steps)
    process.send_signal(number)
    said, noted = process.communicate(timeout=100)
    assert process.returncode == 128 + number
    step = losses(place / "out" / "log.jsonl")[-1][0]
    assert checkpoints.latest(place / "out" / "checkpoints") == place / "out" / "checkpoints" / f"step-{step:08d}"
    assert f"stopped at step {step} of {STEPS}" in said and "finishing this step" in noted
    return step, shlex.split(re.search("to go on: braid (.*)", said)[1]), said


def test_ctrl_c_and_sigterm_store_checkpoints(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the checkpoint's step is the log's last; what is printed, typed as it stands, goes on to the losses of a
    run without a stop, step by step, on held-out text too.
    """
    first, command, _ = stopped(start(place, train("out")), place, signal.SIGINT, 3)
    second, command, said = stopped(start(place, command), place, signal.SIGTERM, first + 3)
    assert f"resumed at step {first} of {STEPS}" in said and second > first
    monkeypatch.chdir(place)
    with on_threads(1):
        again = braid(*command)
        assert again.exit_code == 0 and f"resumed at step {second} of {STEPS}" in again.stdout
        assert braid(*train("calm")).exit_code == 0
    for name in ("loss", "eval_loss"):
        assert losses(place / "out" / "log.jsonl", name) == losses(place / "calm" / "log.jsonl", name)
        assert len(losses(place / "calm" / "log.jsonl", name)) == STEPS


def test_a_second_signal_ends_at_once(place: Path) -> None:
    """Oracle: no checkpoint is there, and nothing was said of one; the exit code of a shell for one of the two."""
    process = start(place, train("out"))
    wait_for_steps(process, place / "out" / "log.jsonl", 3)
    os.kill(process.pid, signal.SIGSTOP)  # so that both are there before either is looked at
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGCONT)
    said, _ = process.communicate(timeout=100)
    assert process.returncode in (128 + signal.SIGINT, 128 + signal.SIGTERM) and "stopped at" not in said
    assert checkpoints.latest(place / "out" / "checkpoints") is None


def test_all_processes_stop_at_the_same_step(place: Path) -> None:
    """Oracle: a checkpoint that is whole, which needs all of them, at the last step of the log; and how it says to go
    on.
    """
    process = start(place, train("out"), 2)
    wait_for_steps(process, place / "out" / "log.jsonl", 3)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=100)
    step = losses(place / "out" / "log.jsonl")[-1][0]
    assert checkpoints.latest(place / "out" / "checkpoints").name == f"step-{step:08d}"
    assert f"stopped at step {step} of {STEPS}" in said
    assert "to go on: torchrun --nproc_per_node 2 -m braidlm train run.toml" in said
