"""What a rule costs: tokens a second of answers that follow one, beside answers that follow none.

    python -m benchmarks.constrained --rounds 7

Each round writes with every rule, and after each of them freely, as many texts of as many tokens from the same prompt
(on one engine, so that both meet the same noise), greedy and sampled in turn by round. A ratio is a rule's tokens a
second over those of the free text beside it: the median with the smallest and the largest. Seconds are counted from a
text's first token to its last; what a rule takes before the first token (its compilation, once) is told apart.
Tokens that a rule forces are draft tokens, as engines have it by default: `--speculative-tokens 0` shows masks alone.
The median ratio of each rule must be 0.75 or more.
"""

import argparse
import statistics
import time
from typing import Any, NamedTuple

import braidlm
from braidlm.bench.table import spread
from braidlm.engine import Engine, Grammar, Limits, Request
from braidlm.generation.sampling import Sampling

from . import report
from .report import Report, milliseconds

LEAST = 0.75
# Shorter texts (a rule may end one at once) cannot be timed.
_FEWEST = 8
PROMPT = "Below is a record of a person who lives in the city, told at length.\n\n"


def _object(**properties: Any) -> Grammar:
    return Grammar.of_schema(
        {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    )


RULES = {
    "a record": _object(
        name={"type": "string", "maxLength": 30}, age={"type": "integer", "minimum": 0, "maximum": 120},
        city={"enum": ["Paris", "Rome", "London", "Berlin"]}, married={"type": "boolean"},
        friends={"type": "array", "items": {"type": "string", "maxLength": 20}, "minItems": 3, "maxItems": 5},
    ),
    "one long text": _object(story={"type": "string", "minLength": 2000}),
    "numbers": _object(values={"type": "array", "items": {"type": "integer"}, "minItems": 60}),
    "any object": Grammar.of_schema({"type": "object"}),
    "date and pattern": _object(
        day={"type": "string", "format": "date"}, code={"type": "string", "pattern": "^[A-Z]{3}$"},
        count={"type": "integer", "minimum": 3, "maximum": 9},
    ),
    "an expression": Grammar("regex", r"([A-Z][a-z]+ (met|saw|knew) [A-Z][a-z]+\. ){30}"),
}  # fmt: skip


class Written(NamedTuple):
    """Texts of one request: their tokens, seconds until the first of these and from it to the last."""

    tokens: int
    first: float
    seconds: float

    @property
    def speed(self) -> float:
        """Tokens a second after the first one of each text."""
        return self.tokens / self.seconds


def write(engine: Engine, ids: tuple[int, ...], grammar: Grammar | None, copies: int, sampling: Sampling) -> Written:
    """Writes the texts of one request."""
    begun, times = time.perf_counter(), []
    for _ in engine.submit(Request(ids=ids, sampling=sampling, grammar=grammar, n=copies)):
        times.append(time.perf_counter())
    return Written(len(times) - copies, times[copies - 1] - begun, times[-1] - times[copies - 1])


def measure(given: argparse.Namespace, report: Report) -> None:
    """All rules, round by round."""
    model = braidlm.load(given.model, dtype="bfloat16")
    ids = tuple(model.encode(PROMPT))
    found: dict[str, list[tuple[Written, Written]]] = {name: [] for name in RULES}
    compiled: dict[str, float] = {}
    with model.engine(limits=Limits(speculative_tokens=given.speculative_tokens)) as engine:
        for number in range(given.rounds + 1):
            for name, grammar in RULES.items():
                heat = 1.0 if number % 2 else 0.0
                sampling = Sampling(max_tokens=given.tokens, temperature=heat, seed=number)
                rule = write(engine, ids, grammar, given.n, sampling)
                long = max(2, rule.tokens // given.n + 1)
                free = Sampling(max_tokens=long, temperature=heat, seed=number, logit_bias=_endless(model))
                beside = write(engine, ids, None, given.n, free)
                if not number:  # the first round compiles the rules, and warms up
                    compiled[name] = rule.first - beside.first
                elif rule.tokens >= _FEWEST:
                    found[name].append((rule, beside))
    _tell(report, given, found, compiled)


def _endless(model: braidlm.LanguageModel) -> dict[int, float]:
    """Keeps free texts from ending before those beside them."""
    return dict.fromkeys(model.origin.ends, -100.0)


def _tell(
    report: Report,
    given: argparse.Namespace,
    found: dict[str, list[tuple[Written, Written]]],
    compiled: dict[str, float],
) -> None:
    lines, ratios = [], {}
    for name, pairs in found.items():
        if not pairs:
            report.check(f"{name}: texts long enough to be timed", False)
            continue
        ratios[name] = [rule.speed / free.speed for rule, free in pairs]
        speeds = [f"{statistics.median(side.speed for side in sides):.1f}" for sides in zip(*pairs, strict=True)]
        first = milliseconds(max(0.0, compiled[name]))  # noise may hide it
        lines.append([name, *speeds, spread(ratios[name]), first])
    report.found |= {
        "model": given.model,
        "n": given.n,
        "speculative_tokens": given.speculative_tokens,
        "ratios": ratios,
    }
    report.table(["rule", "tok/s with it", "tok/s free", "ratio", "before the first token, once"], lines)
    for name, values in ratios.items():
        median = statistics.median(values)
        report.check(f"{name}: {median:.2f} of the free text's speed", median >= LEAST)


def main() -> None:
    """Reads the command line."""
    parser = report.parser(__doc__)
    parser.add_argument("--model", default="smollm2-135m", help="with a tokenizer, in bfloat16")
    parser.add_argument("--tokens", type=int, default=64, help="of each text, at most")
    parser.add_argument("--n", type=int, default=1, help="texts written at once")
    parser.add_argument(
        "--speculative-tokens", type=int, default=15, help="maximum number of draft tokens; 0 shows what masks cost"
    )
    parser.add_argument("--rounds", type=int, default=7)
    report.run(measure, parser)


if __name__ == "__main__":
    main()
