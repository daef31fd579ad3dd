"""Comparison of sides: each does the same tasks in turns, in one run, so that what else the machine does hits all."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..errors import InputError
from ..planner import probe
from ..planner.floor import Rates, decode_floor, prefill_floor, weight_traffic
from ..spec import ModelSpec
from ..system.memory import available_memory
from .contestant import KINDS, Contestant, SideError
from .precision import stored_dtype
from .weights import Weights

# What two processes may take of the memory that is free: files, activations and states of both.
_SHARE = 0.6


@dataclass(frozen=True)
class Prefill:
    """Task: prefill of a prompt of `length` tokens."""

    length: int

    @property
    def label(self) -> str:
        """Name of the task for people."""
        return f"prompt of {self.length}"

    @property
    def tokens(self) -> int:
        """Number of tokens of one run."""
        return self.length

    def floor(self, spec: ModelSpec, precision: str, rates: Rates) -> float:
        """Floor of one run, in seconds."""
        return prefill_floor(spec, self.length, rates)

    def run(self, side: Contestant) -> float:
        """Runs the task once on a side; gives seconds."""
        return side.prefill(self.length)


@dataclass(frozen=True)
class Decode:
    """Task: decode of `steps` tokens for each of `batch` sequences that have seen `context` tokens."""

    steps: int
    batch: int
    context: int

    @property
    def label(self) -> str:
        """Name of the task for people."""
        return f"decoding, {self.batch} sequence{'s' if self.batch > 1 else ''}"

    @property
    def tokens(self) -> int:
        """Number of tokens of one run."""
        return self.steps * self.batch

    def floor(self, spec: ModelSpec, precision: str, rates: Rates) -> float:
        """Floor of one run, in seconds."""
        return self.steps * decode_floor(spec, self.context + self.steps // 2, self.batch, precision, rates)

    def run(self, side: Contestant) -> float:
        """Runs the task once on a side; gives seconds."""
        return side.decode(self.context, self.steps, self.batch)


Task = Prefill | Decode


@dataclass
class Measured:
    """Measurement of one task: the seconds of every round of every side, and their floor once that is known."""

    task: Task
    floor: float = 0.0
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def speed(self, side: str) -> float:
        """Throughput in tokens a second, by the median round."""
        return self.task.tokens / statistics.median(self.seconds[side])

    def ratios(self, baseline: str) -> list[float]:
        """Ratios to `baseline`, round by round: how many times faster braidlm was."""
        return [slow / fast for fast, slow in zip(self.seconds["braidlm"], self.seconds[baseline])]

    @property
    def of_floor(self) -> float:
        """Share of braidlm's time that the floor accounts for."""
        return self.floor / statistics.median(self.seconds["braidlm"])

    def to_json(self) -> dict[str, Any]:
        """The result as plain data, for JSON."""
        task = {"kind": type(self.task).__name__.lower(), **asdict(self.task)}
        return {"task": task, "floor": self.floor, "seconds": self.seconds}


@dataclass
class Comparison:
    """Comparison of one model in one precision. `absent` says why a side has no results.

    `sides` names the others' settings.
    """

    model: str
    precision: str
    rates: Rates
    measured: list[Measured]
    sides: dict[str, dict[str, Any]] = field(default_factory=dict)
    memory: dict[str, dict[str, int]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The result as plain data, for JSON."""
        facts = {"rates": self.rates._asdict(), "sides": self.sides, "memory": self.memory, "absent": self.absent}
        measured = [item.to_json() for item in self.measured]
        return {"model": self.model, "precision": self.precision, "measured": measured, **facts}


class Runner:
    """Runner of comparisons: the sides, the number of rounds, the number of threads."""

    def __init__(self, baselines: Sequence[str], rounds: int, threads: int, llama_python: str | None = None) -> None:
        for baseline in baselines:
            if baseline not in KINDS or baseline == "braidlm":
                others = ", ".join(name for name in KINDS if name != "braidlm")
                raise InputError(f"braidlm is measured against {others}, not against {baseline!r}")
        self._kinds = [KINDS[name] for name in ("braidlm", *baselines)]
        self._rounds = rounds
        self._threads = threads
        self._llama_python = llama_python

    def compare(self, weights: Weights, precision: str, tasks: Sequence[Task]) -> Comparison:
        """Runs every task on every side. What the machine can do is measured before and after: the better counts."""
        before = self._rates(weights.spec, precision)
        result = Comparison(weights.name, precision, before, [Measured(task) for task in tasks])
        files = dict(self._files(weights, precision, result))
        weights.forget()
        if 2 * sum(map(_size, files.values())) < _SHARE * available_memory():
            self._together(files, precision, result)
        else:
            self._in_turn(files, precision, result)
        result.rates = before.best(self._rates(weights.spec, precision))
        for item in result.measured:
            item.floor = item.task.floor(weights.spec, precision, result.rates)
        return result

    def _rates(self, spec: ModelSpec, precision: str) -> Rates:
        torch.set_num_threads(self._threads)
        stored = stored_dtype(precision)
        dtype = getattr(torch, stored)
        bandwidth = probe.read_bandwidth(int(weight_traffic(spec, 1, precision)))
        return Rates(bandwidth, stored, probe.matrix_rate(dtype), probe.matrix_rate(torch.float32))

    def _files(self, weights: Weights, precision: str, result: Comparison) -> Iterator[tuple[str, Path]]:
        for kind in self._kinds:
            if precision not in kind.precisions:
                result.absent[kind.name] = f"{kind.name} has no {precision} here"
                continue
            path = weights.files(kind.name, precision)
            if path is None:
                result.absent[kind.name] = f"{kind.name} has no format for this model"
            else:
                yield kind.name, path

    def _together(self, files: Mapping[str, Path], precision: str, result: Comparison) -> None:
        """All sides hold the model at once; the first round of each task warms up and does not count."""
        with ExitStack() as stack:
            sides = {name: stack.enter_context(Contestant(KINDS[name], self._llama_python)) for name in files}
            ready = [side for name, side in sides.items() if self._load(side, files[name], precision, result)]
            for turn in range(self._rounds + 1):
                for item in result.measured:
                    for side in ready:
                        self._run(side, item, result, counts=turn > 0)
            for side in ready:
                result.memory[side.kind.name] = side.memory()

    def _in_turn(self, files: Mapping[str, Path], precision: str, result: Comparison) -> None:
        """One side after the other holds the model, every round anew, from files that were read just before."""
        for _ in range(self._rounds):
            for name, path in files.items():
                if name in result.absent:
                    continue
                _read_through(path)
                with Contestant(KINDS[name], self._llama_python) as side:
                    if not self._load(side, path, precision, result):
                        continue
                    for item in result.measured:
                        self._run(side, item, result, counts=False)
                        self._run(side, item, result, counts=True)
                    result.memory[name] = side.memory()

    def _load(self, side: Contestant, path: Path, precision: str, result: Comparison) -> bool:
        """Whether the side can run this model; a baseline that cannot is told in the report, braidlm must."""
        name = side.kind.name
        try:
            result.sides[name] = side.load(path, precision, self._threads)
        except SideError as error:
            if name == "braidlm":
                raise
            result.absent[name] = str(error)
            return False
        return True

    def _run(self, side: Contestant, item: Measured, result: Comparison, *, counts: bool) -> None:
        seconds = item.task.run(side)
        if counts:
            item.seconds.setdefault(side.kind.name, []).append(seconds)


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.iterdir() if file.is_file()]
    return sum(file.stat().st_size for file in files)


def _read_through(path: Path) -> None:
    """Brings files into the page cache, so that no side pays for the disk."""
    for file in [path] if path.is_file() else path.iterdir():
        with file.open("rb") as stream:
            while stream.read(64 << 20):
                pass
