"""Turns of a chat beside llama.cpp and transformers: time to the first token, and what had to be run before it.

    python -m benchmarks.turns                       # SmolLM2-135M's shape and Granite-4.0-H-350m's
    python -m benchmarks.turns --models smollm2-135m --sides braidlm llama.cpp

Every side is a process of its own that is driven by token ids: the weights are random ones, the same for all, and
have no tokenizer. Sides take turns, turn by turn; each goes on from its own greedy answers. After the turns an
earlier message, that of the middle turn, is said anew, and what followed it is dropped. Then the chat before that
edit is taken up from a file by a new process: braidlm's session file, llama.cpp's state file; transformers has none.
What each side does to reuse what it has seen is said in `benchmarks/turn_sides`. A ratio is the baseline's seconds over
braidlm's, the median of all rounds with the smallest and the largest. What must hold: braidlm runs only what is new
in appended turns and after the file, at most 256 tokens more after the edit, and is not slower than its baselines.
"""

import argparse
import random
import statistics
import tempfile
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from braidlm.bench.contestant import KINDS, Contestant
from braidlm.bench.table import spread
from braidlm.bench.weights import Weights
from braidlm.engine import Limits
from braidlm.errors import UnavailableError

from . import report
from .report import Report, milliseconds
from .streams import random_ids

SIDES = {name: replace(KINDS[name], module=f"benchmarks.turn_sides.{name.replace('.', '_')}_side") for name in KINDS}
EDIT, FILE = "edit", "from a file"


@dataclass
class Talk:
    """One side's chat."""

    ids: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)

    def asked(self, message: list[int]) -> dict[str, Any]:
        """What a side is asked when `message` is said."""
        ids = [*self.ids, *message]
        return {"ids": ids, "ends": [*self.ends, len(ids)]}

    def after(self, asked: dict[str, Any], made: list[int]) -> "Talk":
        """The chat with its answer."""
        ids = [*asked["ids"], *made]
        return Talk(ids, [*asked["ends"], len(ids)])

    def first(self, turns: int) -> "Talk":
        """Its first turns."""
        end = self.ends[2 * turns - 1] if turns else 0
        return Talk(self.ids[:end], self.ends[: 2 * turns])


# By what was done (a turn's number, an edit, a file), then by side: (seconds, tokens run) of each round.
Found = dict[str, dict[str, list[tuple[float, int]]]]


def round_of(sides: dict[str, Contestant], fresh: Any, given: argparse.Namespace, rng: random.Random) -> Found:
    """One chat of every side; `fresh(name)` is a new process of a side."""
    vocab, found, talks = given.vocab, Found(), {name: Talk() for name in sides}
    for side in sides.values():
        side.ask("begin", {})

    def does(what: str, message: list[int], doing: dict[str, tuple[Talk, str, dict[str, Any]]]) -> dict[str, Talk]:
        after = {}
        for name, (talk, how, more) in doing.items():
            asked = talk.asked(message)
            with fresh(name) if how == "resume" else nullcontext(sides[name]) as side:
                made = side.ask(how, asked | {"tokens": given.tokens} | more)
            found.setdefault(what, {})[name] = [(made["first"], made["run"])]
            after[name] = talk.after(asked, made["ids"])
        return after

    for number in range(given.turns):
        message = random_ids(rng, given.message, vocab)
        talks = does(str(number + 1), message, {name: (talk, "turn", {}) for name, talk in talks.items()})
    with tempfile.TemporaryDirectory(prefix="braidlm-turns-") as place:
        files = {name: {"path": str(Path(place) / name)} for name in sides}
        for name, side in sides.items():
            side.ask("keep", files[name])
        again, half = random_ids(rng, given.message, vocab), given.turns // 2
        does(EDIT, again, {name: (talk.first(half), "turn", {}) for name, talk in talks.items()})
        does(FILE, again, {name: (talk, "resume", files[name]) for name, talk in talks.items()})
    return found


def compared(name: str, given: argparse.Namespace, report: Report) -> Found:
    """All rounds of one model."""
    rng, found = random.Random(given.seed), Found()
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory(prefix="braidlm-turns-") as place, ExitStack() as running:
        weights = Weights(name, Path(place))
        given.vocab = weights.spec.vocab
        files = {side: weights.files(side, "bf16") for side in given.sides}
        weights.forget()

        def fresh(side: str) -> Contestant:
            path = files[side]
            if path is None:
                raise UnavailableError(f"{side} has no format for {name}; leave it out with --sides")
            made = Contestant(SIDES[side])
            about = made.load(path, "bf16", threads)
            # The first pass of a process is slower than all others.
            made.ask("turn", {"ids": random_ids(rng, 64, given.vocab), "ends": [], "tokens": 2})
            report.found.setdefault("about", {})[side] = about
            return made

        sides = {side: running.enter_context(fresh(side)) for side in given.sides}
        for number in range(given.rounds):
            for what, seconds in round_of(sides, fresh, given, rng).items():
                for side, one in seconds.items():
                    found.setdefault(what, {}).setdefault(side, []).extend(one)
            report.say(f"{name}: round {number + 1} of {given.rounds}")
    return found


def tell(name: str, found: Found, given: argparse.Namespace, report: Report) -> None:
    """The table of one model, and what must hold of it."""
    baselines = [side for side in given.sides if side != "braidlm"]
    heads = ["model", "turn"]
    for side in given.sides:
        heads += [f"{side}, first token", "tokens run", *(["braidlm is"] if side != "braidlm" else [])]
    rows = []
    for what, by_side in found.items():
        row: list[object] = [name, what]
        for side in given.sides:
            row += [milliseconds(statistics.median(s for s, _ in by_side[side])), max(run for _, run in by_side[side])]
            row += [spread(ratios(by_side, side))] if side != "braidlm" else []
        rows.append(row)
    report.table(heads, rows)
    new = given.message + 1  # the last token of an answer was given, but not run
    later = [what for what in found if what not in ("1", EDIT)]
    most = {what: max(run for _, run in found[what]["braidlm"]) for what in found}
    report.check(f"{name}: later turns and the file run {new} tokens", all(most[what] <= new for what in later))
    allowed = new + Limits().snapshot_interval
    report.check(f"{name}: the edit runs {most[EDIT]} tokens, at most {allowed}", most[EDIT] <= allowed)
    for baseline in baselines:
        appended = [ratio for what in later if what != FILE for ratio in ratios(found[what], baseline)]
        for what, those in (
            ("later turns", appended),
            (EDIT, ratios(found[EDIT], baseline)),
            (FILE, ratios(found[FILE], baseline)),
        ):
            report.check(f"{name}: {what}, {spread(those)} as fast as {baseline}", statistics.median(those) >= 1)


def ratios(by_side: dict[str, list[tuple[float, int]]], baseline: str) -> list[float]:
    """A baseline's seconds over braidlm's, round by round."""
    return [
        baseline_seconds / seconds
        for (baseline_seconds, _), (seconds, _) in zip(by_side[baseline], by_side["braidlm"], strict=True)
    ]


def measure(given: argparse.Namespace, report: Report) -> None:
    """Every model."""
    given.sides = list(dict.fromkeys(["braidlm", *given.sides]))
    for name in given.models:
        found = compared(name, given, report)
        report.found[name] = found
        tell(name, found, given, report)


def main() -> None:
    """Reads the command line."""
    parser = report.parser(__doc__)
    parser.add_argument("--models", nargs="+", default=["smollm2-135m", "granite-4.0-h-350m"], help="presets")
    parser.add_argument("--sides", nargs="+", choices=list(SIDES), default=list(SIDES))
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--message", type=int, default=120, help="tokens of each message")
    parser.add_argument("--tokens", type=int, default=40, help="of each answer")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    report.run(measure, parser)


if __name__ == "__main__":
    main()
