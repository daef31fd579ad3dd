"""What each instruction-set level of the kernels makes of attention and of decode steps, in bfloat16.

    python -m benchmarks.levels --levels avx512_bf16 avx512_amx

Causal attention of a whole prompt, forwards and backwards, beside torch's flash kernel, at the shapes of
`training_pairs`; and native steps of a model of random weights with several rows. The levels take turns, round by
round; a first round warms up. A ratio is the seconds of the first level over those of another in the same round: the
median with the smallest and the largest.
"""

import argparse
import statistics
import time

import torch

import braidlm
from braidlm import LanguageModel
from braidlm.bench.table import spread
from braidlm.decode.slots import Slots, slots_of
from braidlm.ops import native_loader
from braidlm.system.memory import keep_all_freed_memory

from . import report
from .report import Report, milliseconds
from .training_pairs import KERNELS, LARGE, SMALL, attention_seconds

_STEPS = 8
Times = dict[str, dict[str, list[float]]]  # by task, then by side


def step_seconds(slots: Slots, rows: int) -> float:
    """Of one of several steps of so many rows."""
    ids, places = torch.zeros(rows, dtype=torch.int64), list(range(rows))
    begun = time.perf_counter()
    for _ in range(_STEPS):
        slots.step(ids, places)
    return (time.perf_counter() - begun) / _STEPS


def filled(model: LanguageModel, count: int) -> Slots:
    """Slots of rows that have seen nothing."""
    state = model.new_state(1)
    slots = slots_of(model.network, state, count)
    for slot in range(count):
        slots.set_state(slot, state.sequences[0])
    return slots


def measure(given: argparse.Namespace, report: Report) -> None:
    """All levels, round by round."""
    module = native_loader.extension()
    levels = given.levels or module.levels()
    keep_all_freed_memory()
    slots = filled(braidlm.build(given.model, dtype="bfloat16"), max(given.rows))
    times: Times = {}

    def took(task: str, side: str, seconds: float) -> None:
        times.setdefault(task, {}).setdefault(side, []).append(seconds)

    def attend(side: str, kernel: str) -> None:
        for name, shape in (("large", LARGE), ("small", SMALL)):
            for tokens in given.tokens:
                forwards, back = attention_seconds(shape.attention, tokens, KERNELS[kernel])
                took(f"attention, {name}, {tokens} tokens", side, forwards)
                took(f"its gradients, {name}, {tokens} tokens", side, back)

    for _ in range(given.rounds + 1):
        for level in levels:
            module.set_level(level)
            attend(level, "braidlm")
            for rows in given.rows:
                took(f"a step of {rows} rows", level, step_seconds(slots, rows))
        attend("torch", "torch")
    rows = []
    for task, sides in times.items():
        first = sides[levels[0]][1:]
        for side, seconds in sides.items():
            ratios = [a / b for a, b in zip(first, seconds[1:], strict=True)]
            rows.append([task, side, milliseconds(statistics.median(seconds[1:])), spread(ratios)])
    report.found |= {"seconds": times}
    report.table(["task", "by", "time", f"{levels[0]} over it"], rows)


if __name__ == "__main__":
    parser = report.parser(__doc__)
    parser.add_argument("--levels", nargs="+", help="all that this processor has, by default")
    parser.add_argument("--model", default="granite-4.0-h-350m", help="a preset, with random weights in bfloat16")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--tokens", type=int, nargs="+", default=[2048, 8192])
    parser.add_argument("--rounds", type=int, default=3)
    report.run(measure, parser)
