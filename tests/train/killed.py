"""A run of training that is killed at random moments, and the same run without kills. As a module it is that run."""

import random
import subprocess
import sys
import time
from pathlib import Path

from braidlm.train import record
from braidlm.train.config import Config, Stage
from braidlm.train.loop import Hooks, Trainer
from tests.train.packings import OneText
from tests.train.test_loop import config, ids_for, losses, model

ROOT = Path(__file__).parents[2]
STEPS = 2000


def asked(out: Path, checkpoint: int) -> Config:
    return config(out, Stage(steps=STEPS, batch_size=1, seq_len=16), checkpoint=checkpoint)


def kill(out: Path, kills: int, seed: int = 0) -> int:
    """Starts the run in `out` and kills it, `kills` times; the steps that it had told of when it was killed last."""
    rng, seen = random.Random(seed), 0
    for _ in range(kills):
        process = subprocess.Popen([sys.executable, "-m", "tests.train.killed", str(out)], cwd=ROOT)
        while len(record.read_log(out / "log.jsonl")) < seen + 3 and process.poll() is None:
            time.sleep(0.02)
        time.sleep(rng.random() * 0.3)
        process.kill()
        process.wait()
        told = len(record.read_log(out / "log.jsonl"))
        assert told >= seen - 1, "steps were lost that had been told before"
        seen = told
    return seen


def both(out: Path, calm: Path) -> tuple[int, list[float], list[float]]:
    """How far the killed run's last checkpoint has come, its losses until there, and those of a run without kills."""
    network = model("mamba2")
    step = Trainer(asked(out, 1), network, OneText(ids_for(network)), []).step
    found = [line["loss"] for line in record.read_log(out / "log.jsonl")][:step]
    plain, whole = model("mamba2"), []
    hooks = Hooks(stepped=lambda made: whole.append(made.loss))
    Trainer(asked(calm, 0), plain, OneText(ids_for(plain)), []).run(hooks, until=step)
    return step, found, whole


if __name__ == "__main__":
    begun = model("mamba2")
    losses(asked(Path(sys.argv[1]), 1), begun, ids_for(begun))
