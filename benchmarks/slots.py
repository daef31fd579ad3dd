"""Which of 16 slots are busy must not matter: tokens a second for several patterns of as many slots, and the bits.

    python -m benchmarks.slots

Patterns of 4 busy slots (the first, the last, scattered ones) and of 8 (the first, the even, the odd ones) decode
the same rows, in turns, round by round. A ratio is a pattern's tokens a second over those of the first pattern of as
many slots in the same round: the median with the smallest and the largest. The logits of every step must be the
same bits in every pattern, and the median ratios be between 0.95 and 1.05.
"""

import argparse
import statistics
import time
from itertools import groupby

import torch
from torch import Tensor

import braidlm
from braidlm import LanguageModel
from braidlm.bench.table import spread
from braidlm.decode.slots import Slots, slots_of
from braidlm.state.sequence import SequenceState

from . import report
from .report import Report

SLOTS = 16
PATTERNS = {
    "first 4": (0, 1, 2, 3),
    "last 4": (12, 13, 14, 15),
    "scattered 4": (1, 6, 11, 12),
    "first 8": tuple(range(8)),
    "even 8": tuple(range(0, 16, 2)),
    "odd 8": tuple(range(1, 16, 2)),
}
NEAR = 0.05
_CONTEXT = 128


def prompted(model: LanguageModel, count: int) -> tuple[list[SequenceState], Tensor]:
    """Rows that have read prompts of unequal lengths, and the next token of each."""
    prompts = [torch.randint(model.spec.vocab, (_CONTEXT + 8 * number,)) for number in range(count)]
    state = model.new_state(count)
    logits = model.forward(prompts, state=state, logits="last")
    return list(state.sequences), logits.argmax(-1)


def decoded(
    slots: Slots, busy: tuple[int, ...], rows: list[SequenceState], ids: Tensor, steps: int
) -> tuple[float, Tensor]:
    """Seconds of so many greedy steps of the first rows, and the logits of all of them."""
    for slot, row in zip(busy, rows):
        slots.set_state(slot, row)
    places, made, ids = list(busy), [], ids[: len(busy)]
    begun = time.perf_counter()
    for _ in range(steps):
        made.append(slots.step(ids, places))
        ids = made[-1].argmax(-1)
    return time.perf_counter() - begun, torch.stack(made)


def measure(given: argparse.Namespace, report: Report) -> None:
    """All patterns, round by round."""
    model = braidlm.build(given.model, dtype="bfloat16")
    speeds: dict[str, list[float]] = {name: [] for name in PATTERNS}
    same = dict.fromkeys(PATTERNS, True)
    with torch.no_grad():
        rows, ids = prompted(model, 8)
        slots = slots_of(model.network, model.new_state(), SLOTS)
        first: dict[int, Tensor] = {}
        for number in range(given.rounds + 1):
            for name, busy in PATTERNS.items():
                seconds, logits = decoded(slots, busy, rows, ids, given.tokens)
                same[name] &= torch.equal(first.setdefault(len(busy), logits), logits)
                if number:  # the first round warms up
                    speeds[name].append(len(busy) * given.tokens / seconds)
    _tell(report, given.model, speeds, same)


def _tell(report: Report, model: str, speeds: dict[str, list[float]], same: dict[str, bool]) -> None:
    lines = []
    for _, group in groupby(PATTERNS, lambda name: len(PATTERNS[name])):
        names = list(group)
        for name in names:
            ratios = [speed / other for speed, other in zip(speeds[name], speeds[names[0]], strict=True)]
            lines.append([model, name, f"{statistics.median(speeds[name]):.1f}", spread(ratios), same[name]])
            if name != names[0]:
                ratio = statistics.median(ratios)
                report.check(f"{name} of {SLOTS} are as fast as the {names[0]}: {ratio:.3f}", abs(ratio - 1) <= NEAR)
    report.found |= {"model": model, "tokens_per_second": speeds, "same_bits": same}
    report.table(["model", "busy slots", "tok/s", "over the first pattern", "same bits"], lines)
    report.check("every pattern gives the same bits", all(same.values()))


def main() -> None:
    """Reads the command line."""
    parser = report.parser(__doc__)
    parser.add_argument("--model", default="granite-4.0-h-350m", help="a preset, with random weights in bfloat16")
    parser.add_argument("--tokens", type=int, default=32, help="steps of each pattern in each round")
    parser.add_argument("--rounds", type=int, default=7)
    report.run(measure, parser)


if __name__ == "__main__":
    main()
