"""Recall of small models that are trained on synthetic tasks, beside the bytes of their state.

    python -m benchmarks.synthetic runs --tasks mqar --processes 2 --plot recall.svg

Every layout of examples/synthetic is trained at several state sizes: with each learning rate from one seed, and with
the best one of them from the other seeds, since recurrent models learn recall in a narrow band of rates alone (Okpekpe
and Orvieto 2025). A run is a directory with its score; the same command goes on with those that are left. Exact
answers are shares of held-out questions, others than those that choose the rate; mean and standard deviation are over
seeds.
"""

import argparse
import json
import multiprocessing
import os
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from braidlm.errors import InputError
from braidlm.eval.item_maker import ItemMaker
from braidlm.eval.recall import recall
from braidlm.eval.tasks import items
from braidlm.model.model import Model
from braidlm.system.files import whole_file
from braidlm.system.pictures import check_picture
from braidlm.system.setting_files import read_toml
from braidlm.train import run as training
from braidlm.train.config import Config, read_config
from braidlm.train.data.recall import RecallTask
from braidlm.train.loop import Hooks
from braidlm.train.world import World

from . import report
from .report import Report
from .synthetic_plot import draw

LAYOUTS = Path(__file__).parent.parent / "examples" / "synthetic"
# Changes to a layout for each task; the files are those of the first.
TASKS = {
    "mqar": (),
    "induction": ("data.task.name=induction", "data.task.questions=8"),
    "selective_copying": ("data.task.name=selective_copying", "data.task.questions=1"),
}
SCORE = "score.json"
# Texts that each model is asked about, with five questions each; what is added to the seed of those that choose rates.
HAYSTACKS, _CHOICE = 100, 1000
HEADS = ("task", "layout", "d_state", "state, bytes", "learning rate", "exact", "std. dev.", "seeds", "minutes")


class Case(NamedTuple):
    """One run to train: a layout's file, task, state size (None without a recurrence), learning rate and seed."""

    layout: Path
    task: str
    d_state: int | None
    rate: float
    seed: int

    @property
    def name(self) -> str:
        """Name of its directory."""
        state = "" if self.d_state is None else f"-{self.d_state}"
        return f"{self.task}-{self.layout.stem}{state}-{self.rate:g}-{self.seed}"

    @property
    def model(self) -> tuple[str, str, int | None]:
        """What a row of the table is about."""
        return self.task, self.layout.stem, self.d_state


class Score(NamedTuple):
    """Score of a run.

    exact: share of exact answers. choice: the same of other questions, by which rates are compared. state: bytes of the
    state after a text in float32. seconds: of training.
    """

    exact: float
    choice: float
    state: int
    seconds: float


def config_of(case: Case, out: Path, changes: Sequence[str]) -> Config:
    """Configuration of a run."""
    sized = [] if case.d_state is None else [f"{place}={case.d_state}" for place in state_fields(case.layout)]
    seeds = [f"{field}={case.seed}" for field in ("run.seed", "model.seed", "data.task.seed")]
    place = [f"run.out={(out / case.name).absolute()}", "run.checkpoint=0", f"optimizer.lr={case.rate}"]
    return read_config(case.layout, [*TASKS[case.task], *sized, *seeds, *place, *changes])


def state_fields(layout: Path) -> list[str]:
    """Fields of a layout that set the size of a recurrence's state."""
    blocks = read_toml(layout)["model"]["spec"]["blocks"]
    return [f"model.spec.blocks.{n}.mixer.d_state" for n, block in enumerate(blocks) if "d_state" in block["mixer"]]


def train(case: Case, out: Path, changes: Sequence[str]) -> Score:
    """Score of a run, which is made unless it is there; `InputError` if it was made with other settings."""
    place = out / case.name / SCORE
    config = config_of(case, out, changes)
    settings = config.to_json()
    settings["run"].pop("out")
    if place.exists():
        kept = json.loads(place.read_text())
        if kept["settings"] != settings:
            raise InputError(f"{place.parent} was made with other settings; remove it, or choose another directory")
        return Score(**kept["score"])
    task = config.data.task
    assert task is not None
    prepared = training.prepare(config, World())
    seconds: list[float] = []
    training.train(prepared, Hooks(stepped=lambda step: seconds.append(step.seconds)))
    model = prepared.trainer.model.eval().requires_grad_(False)
    state = model.spec.state_bytes(task.length, dtype="float32", kv_dtype="float32")
    score = Score(_exact(model, task, case.seed), _exact(model, task, case.seed + _CHOICE), state, sum(seconds))
    with whole_file(place) as temporary:
        temporary.write_text(json.dumps({"settings": settings, "score": score._asdict()}))
    return score


def _exact(model: Model, task: RecallTask, seed: int) -> float:
    asked = list(items(task.name, ItemMaker(None, model.spec.vocab), task.length, HAYSTACKS, seed=seed))
    return recall(model, asked).whole.exact


def _train(given: tuple[Case, Path, Sequence[str]]) -> tuple[Case, Score]:
    torch.set_num_threads(1)
    score = train(*given)
    print(f"{given[0].name}: {score.exact:.1%}, {score.seconds:.0f} s", flush=True)
    return given[0], score


class Sweep:
    """Scores of the cases that were asked for."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self._asked = asked
        self.scores: dict[Case, Score] = {}

    def run(self) -> None:
        """Trains all rates from the first seed, then the best of each model from the others."""
        self._make(list(self._cases()))
        best = [self.best(model) for model in self.models]
        self._make([case._replace(seed=seed) for case in best for seed in range(1, self._asked.seeds)])

    def _cases(self) -> Iterable[Case]:
        for task in self._asked.tasks:
            for layout in sorted(self._asked.layouts.glob("*.toml")):
                for d_state in self._asked.states if state_fields(layout) else (None,):
                    for rate in self._asked.rates:
                        yield Case(layout, task, d_state, rate, 0)

    def _make(self, cases: Sequence[Case]) -> None:
        jobs = [(case, self._asked.out, self._asked.set) for case in cases]
        os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that are started
        with multiprocessing.get_context("spawn").Pool(self._asked.processes) as pool:
            self.scores.update(pool.imap_unordered(_train, jobs))

    @property
    def models(self) -> list[tuple[str, str, int | None]]:
        """Rows of the table in their order."""
        return sorted({case.model for case in self.scores}, key=lambda model: (model[0], model[1], model[2] or 0))

    def best(self, model: tuple[str, str, int | None]) -> Case:
        """The case with the best learning rate from the first seed."""
        own = [case for case in self.scores if case.model == model and not case.seed]
        return max(own, key=lambda case: self.scores[case].choice)

    def summary(self, model: tuple[str, str, int | None]) -> dict[str, Any]:
        """Scores of a model over seeds, at its best learning rate."""
        best = self.best(model)
        found = [score for case, score in self.scores.items() if case._replace(seed=0) == best]
        shares = [score.exact for score in found]
        spread = statistics.stdev(shares) if len(shares) > 1 else None
        spent = sum(score.seconds for case, score in self.scores.items() if case.model == model)
        task, layout, d_state = model
        return {
            "task": task, "layout": layout, "d_state": d_state, "state": found[0].state, "rate": best.rate,
            "exact": statistics.mean(shares), "spread": spread, "seeds": len(shares), "seconds": spent,
        }  # fmt: skip


def measure(asked: argparse.Namespace, told: Report) -> None:
    """Trains what is left, and tells the table of all."""
    if asked.plot is not None:
        check_picture(asked.plot, "the plot of exact answers")
    sweep = Sweep(asked)
    sweep.run()
    rows = [sweep.summary(model) for model in sweep.models]
    told.found["rows"] = rows
    told.table(HEADS, [_row(row) for row in rows])
    if asked.plot is not None:
        draw(rows, asked.plot)


def _row(row: dict[str, Any]) -> list[str]:
    spread = "" if row["spread"] is None else f"{row['spread']:.1%}"
    size = "" if row["d_state"] is None else str(row["d_state"])
    return [
        row["task"], row["layout"], size, f"{row['state']:,}", f"{row['rate']:g}", f"{row['exact']:.1%}", spread,
        str(row["seeds"]), f"{row['seconds'] / 60:.1f}",
    ]  # fmt: skip


if __name__ == "__main__":
    arguments = report.parser(__doc__)
    arguments.add_argument("out", type=Path, help="directory of the runs")
    arguments.add_argument("--layouts", type=Path, default=LAYOUTS, help="directory of TOML files")
    arguments.add_argument("--tasks", nargs="+", choices=TASKS, default=["mqar"])
    arguments.add_argument("--states", nargs="+", type=int, default=[4, 16, 64], help="sizes of recurrent states")
    arguments.add_argument("--rates", nargs="+", type=float, default=[2e-3, 5e-3, 1.2e-2], help="learning rates")
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument("--processes", type=int, default=2, help="runs at a time, with one thread each")
    arguments.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="field of every layout")
    arguments.add_argument("--plot", type=Path, help="SVG or PNG of exact answers by bytes of state")
    report.run(measure, arguments)
