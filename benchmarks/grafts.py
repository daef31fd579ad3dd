"""Grafts of one donor at small budgets: kinds of mixers, shares of blocks that stay, what each loses.

    python -m benchmarks.grafts smollm2-135m shards grafts --kinds parallel mamba2 hyena meta --keep 0.75 0.5 0.25

The blocks that are replaced are the same for all kinds: those that lose least when a window alone takes the place of
their attention. Every graft aligns and distils for `--steps` sequences each, and is measured on the same held-out text
and the same questions, half way too. A directory of grafts goes on where it was stopped.
"""

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from braidlm.cli.training_watch import watched
from braidlm.errors import InputError
from braidlm.graft.align import Align
from braidlm.graft.layout import Layout, Rule
from braidlm.graft.options import MixerOptions
from braidlm.graft.phases import Phase
from braidlm.graft.probe import Loss, Probe
from braidlm.graft.recipe import GraftRun, Recipe
from braidlm.graft.report.settings import Report as Measured
from braidlm.graft.run import Until, graft
from braidlm.train import training_log
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
# Tokens that evaluations and the probe read.
_READ = 4096


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


def recipe(asked: argparse.Namespace, name: str, layout: Layout) -> Recipe:
    """Recipe of one graft."""
    stages = (Stage(steps=asked.steps, batch_size=1, seq_len=asked.seq_len),)
    parallel = any(rule.mixer is not None and rule.mixer.kind == "parallel" for rule in layout.rules)
    return Recipe(
        donor=asked.donor,
        layout=layout,
        data=Data(shards=str(asked.shards.absolute()), eval_tokens=_READ),
        align=Align(stages=stages, evaluate=asked.steps, checkpoint=25),
        probe=Probe(tokens=_READ, haystacks=2),
        distil=Phase(
            stages=stages,
            optimizer=Optimizer(lr=2e-4, weight_decay=0.0),
            donor_lr=0.15,
            branch_dropout=BranchDropout(start=asked.dropout) if parallel and asked.dropout else None,
            evaluate=max(1, asked.steps // 2),
            checkpoint=25,
        ),
        report=Measured(parts=("recall", "state"), recall_lengths=(1024,), haystacks=4, lengths=(8192,)),
        run=GraftRun(out=str((asked.out / name).absolute()), dtype="float32"),
    )


def order(asked: argparse.Namespace) -> list[int]:
    """Blocks of the donor, first the ones that lose least when a window takes the place of their attention."""
    made = recipe(asked, "probe", Layout(mixer=MIXERS["window"], keep=0.5))
    _graft(made, "probe")
    probed = json.loads((Path(made.run.out) / "probe" / "finished.json").read_text())
    worth: dict[str, float] = probed["result"]["worth"]
    return sorted(map(int, worth), key=lambda block: worth[str(block)])


def layout_of(kind: str, keep: float, blocks: Sequence[int]) -> Layout:
    """Layout that replaces the first of the blocks, but for a share that is kept."""
    replaced = sorted(blocks[: len(blocks) - round(keep * len(blocks))])
    rule = Rule(blocks=", ".join(map(str, replaced)), mixer=MIXERS[kind])
    return Layout(rules=(rule,), meta_tokens=META_TOKENS if kind == "meta" else 0)


def rows(kind: str, keep: float, out: Path) -> Iterator[list[str]]:
    """Rows of the table, from a graft's logs and its report: evaluations half way and at the end, then recall."""
    facts: dict[str, Any] = json.loads((out / "report.json").read_text())
    measured = facts["measured"]
    state = measured["state"]["graft"][0]["bytes"]
    nats = [task["nats"] for task in measured["recall"]["graft"] if "nats" in task]
    before = sum(stage["tokens"] for stage in facts["stages"] if stage["stage"] != "distil")
    log = training_log.read_log(out / "distil" / training_log.FILE)
    evaluated = sorted({line["step"] for line in log if "eval_loss" in line})
    for step in evaluated:
        found = {name: value for line in log if line["step"] == step for name, value in line.items()}
        tokens = before + sum(line["tokens"] for line in log if "loss" in line and line["step"] <= step)
        last = step == evaluated[-1]
        yield [
            kind, f"{keep:.0%}", f"{tokens:,}", f"{math.exp(found['eval_loss']):.2f}", f"{found['eval_kl']:.4f}",
            f"{found['eval_agreement']:.1%}", f"{sum(nats) / max(1, len(nats)):.3f}" if last else "", f"{state:,}",
        ]  # fmt: skip


def measure(asked: argparse.Namespace, told: Report) -> None:
    """Makes the grafts that are asked for, and tells the table of them."""
    told.table(HEADS, list(_rows(asked)))


def _rows(asked: argparse.Namespace) -> Iterator[list[str]]:
    blocks = order(asked)
    for kind in asked.kinds:
        for keep in asked.keep:
            made = recipe(asked, f"{kind}-{keep}", layout_of(kind, keep, blocks))
            out = Path(made.run.out)
            _graft(made, "model")
            yield from rows(kind, keep, out)


def _graft(made: Recipe, until: Until) -> None:
    if graft(made, Console(Path(made.run.out).name), until):
        raise InputError("stopped; the same command goes on")


if __name__ == "__main__":
    arguments = report.parser(__doc__)
    arguments.add_argument("donor", help="model whose blocks are replaced")
    arguments.add_argument("shards", type=Path, help="text in its tokens, with documents that are held out")
    arguments.add_argument("out", type=Path, help="directory of the grafts")
    arguments.add_argument("--kinds", nargs="+", choices=MIXERS, default=list(MIXERS))
    arguments.add_argument("--keep", nargs="+", type=float, default=[0.75, 0.5, 0.25])
    arguments.add_argument("--steps", type=int, default=100, help="sequences of each stage")
    arguments.add_argument("--dropout", type=float, default=0.0, help="branch dropout of parallel mixers at the start")
    arguments.add_argument("--seq-len", type=int, default=1024, help="tokens of a sequence")
    report.run(measure, arguments)
