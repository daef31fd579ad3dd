"""Grafts of one donor at small budgets: kinds of mixers, shares of blocks that stay, what each loses.

    python -m benchmarks.grafts smollm2-135m shards grafts --kinds parallel mamba2 hyena meta --keep 0.75 0.5 0.25

Every graft aligns and distils for `--steps` sequences each, and is measured on the same held-out text and the same
questions. A directory of grafts goes on where it was stopped; blocks that stay are chosen by each kind's own probe.
"""

import argparse
import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from braidlm.cli.training_watch import watched
from braidlm.errors import InputError
from braidlm.graft.align import Align
from braidlm.graft.layout import Layout
from braidlm.graft.options import MixerOptions
from braidlm.graft.phases import Phase
from braidlm.graft.probe import Loss
from braidlm.graft.recipe import GraftRun, Recipe
from braidlm.graft.report.settings import Report as Measured
from braidlm.graft.run import graft
from braidlm.train.config import BranchDropout, Data, Optimizer, Stage
from braidlm.train.loop import Hooks, Trainer

from . import report
from .report import Report

# "meta": a window and learned vectors before every sequence.
MIXERS = {
    "parallel": MixerOptions(kind="parallel", window=256, sink_tokens=4),
    "mamba2": MixerOptions(kind="mamba2"),
    "mamba": MixerOptions(kind="mamba"),
    "hyena": MixerOptions(kind="hyena"),
    "window": MixerOptions(kind="window", window=256, sink_tokens=4),
    "meta": MixerOptions(kind="window", window=256),
}
META_TOKENS = 16
HEADS = ("mixer", "kept", "tokens", "perplexity", "KL, nats", "agreement", "recall, nats", "state at 8k")


class Console:
    """Watcher that prints what a graft says."""

    def __init__(self, name: str) -> None:
        self._name = name

    def said(self, text: str) -> None:
        """Prints a sentence."""
        print(f"{self._name}: {text}", flush=True)

    def training(self, stage: str, trainer: Trainer) -> AbstractContextManager[Hooks]:
        """Shows the progress of a stage."""
        self.said(stage)
        return watched(trainer)

    def probed(self, name: str, loss: Loss) -> None:
        """Prints what a variant loses."""
        self.said(f"{name}: KL {loss.divergence:.4f}, recall {loss.recall:+.3f}")


def recipe(asked: argparse.Namespace, kind: str, keep: float) -> Recipe:
    """Recipe of one graft."""
    stages = (Stage(steps=asked.steps, batch_size=1, seq_len=asked.seq_len),)
    options = MIXERS[kind]
    return Recipe(
        donor=asked.donor,
        layout=Layout(mixer=options, keep=keep, meta_tokens=META_TOKENS if kind == "meta" else 0),
        data=Data(shards=str(asked.shards.absolute()), eval_tokens=8192),
        align=Align(stages=stages, checkpoint=25),
        distil=Phase(
            stages=stages,
            optimizer=Optimizer(lr=3e-4, weight_decay=0.0),
            donor_lr=0.1,
            branch_dropout=BranchDropout(start=0.3, until=0.5) if options.kind == "parallel" else None,
            checkpoint=25,
        ),
        report=Measured(parts=("text", "recall", "state"), tokens=8192, recall_lengths=(1024,), lengths=(8192,)),
        run=GraftRun(out=str((asked.out / f"{kind}-{keep}").absolute()), dtype="float32"),
    )


def row(kind: str, keep: float, out: Path) -> list[str]:
    """Row of the table, from a graft's report."""
    facts: dict[str, Any] = json.loads((out / "report.json").read_text())
    measured = facts["measured"]
    text, state = measured["text"]["graft"], measured["state"]["graft"][0]["bytes"]
    nats = [task["nats"] for task in measured["recall"]["graft"] if "nats" in task]
    return [
        kind, f"{keep:.0%}", f"{sum(stage['tokens'] for stage in facts['stages']):,}", f"{text['perplexity']:.2f}",
        f"{text['divergence']:.4f}", f"{text['agreement']:.1%}", f"{sum(nats) / max(1, len(nats)):.3f}", f"{state:,}",
    ]  # fmt: skip


def measure(asked: argparse.Namespace, told: Report) -> None:
    """Makes the grafts that are asked for, and tells the table of them."""
    told.table(HEADS, list(_rows(asked)))


def _rows(asked: argparse.Namespace) -> Iterator[list[str]]:
    for kind in asked.kinds:
        for keep in asked.keep:
            made = recipe(asked, kind, keep)
            out = Path(made.run.out)
            if graft(made, Console(out.name)):
                raise InputError("stopped; the same command goes on")
            yield row(kind, keep, out)


if __name__ == "__main__":
    arguments = report.parser(__doc__)
    arguments.add_argument("donor", help="model whose blocks are replaced")
    arguments.add_argument("shards", type=Path, help="text in its tokens, with documents that are held out")
    arguments.add_argument("out", type=Path, help="directory of the grafts")
    arguments.add_argument("--kinds", nargs="+", choices=MIXERS, default=list(MIXERS))
    arguments.add_argument("--keep", nargs="+", type=float, default=[0.75, 0.5, 0.25])
    arguments.add_argument("--steps", type=int, default=100, help="sequences of each stage")
    arguments.add_argument("--seq-len", type=int, default=1024, help="tokens of a sequence")
    report.run(measure, arguments)
