"""A run of training that is killed at random moments, and the same run without kills."""

import random
import time
from pathlib import Path

from braidlm.train import training_log
from braidlm.train.config import Config, Stage
from braidlm.train.loop import Hooks, Trainer
from tests.train.packings import OneText
from tests.train.processes import begin
from tests.train.runs import config, ids_for, losses, model

STEPS = 2000


def asked(out: Path, checkpoint: int) -> Config:
    return config(out, Stage(steps=STEPS, batch_size=1, seq_len=16), checkpoint=checkpoint)


def train(out: Path) -> None:
    """The run, until it is killed."""
    network = model("mamba2")
    losses(asked(out, 1), network, ids_for(network))


def kill(out: Path, kills: int, seed: int = 0) -> int:
    """Starts the run in `out` and kills it, `kills` times; the steps that it had told of when it was killed last."""
    rng, seen = random.Random(seed), 0
    for _ in range(kills):
        process = begin(out.with_suffix(".log"), train, out)
        while len(training_log.read_log(out / "log.jsonl")) < seen + 3 and process.is_alive():
            time.sleep(0.02)
        time.sleep(rng.random() * 0.3)
        process.kill()
        process.join()
        told = len(training_log.read_log(out / "log.jsonl"))
        assert told >= seen - 1, "steps were lost that had been told before"
        seen = told
    return seen


def both(out: Path, calm: Path) -> tuple[int, list[float], list[float]]:
    """How far the killed run's last checkpoint has come, its losses until there, and those of a run without kills."""
    network = model("mamba2")
    step = Trainer(asked(out, 1), network, OneText(ids_for(network)), []).step
    found = [line["loss"] for line in training_log.read_log(out / "log.jsonl")][:step]
    plain, whole = model("mamba2"), []
    hooks = Hooks(stepped=lambda made: whole.append(made.loss))
    Trainer(asked(calm, 0), plain, OneText(ids_for(plain)), []).run(hooks, until=step)
    return step, found, whole
