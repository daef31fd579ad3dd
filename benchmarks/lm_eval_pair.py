"""lm-eval's requests through braidlm and through lm-eval's own `hf`, on the same weights in one process.

    python -m benchmarks.lm_eval_pair                                  # SmolLM2-135M, float32
    python -m benchmarks.lm_eval_pair --model ./model --dtype bfloat16 --rounds 5 --batch 1 8

Three kinds of requests: questions with four answers each after common examples, texts whose every token counts, and
answers that are generated after common examples. Sides take turns, request list by request list; `hf` runs with each
batch size of --batch, and the fastest of a round counts. A ratio is its seconds over braidlm's, the median of all
rounds with the least and the greatest. What must hold: log-likelihoods differ by at most 1e-3 each (in float32),
generated texts are equal (in float32), braidlm runs fewer tokens wherever requests share a beginning, and is faster.
"""

import argparse
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

import braidlm
from braidlm.bench.table import spread
from braidlm.eval.filler import sentence
from braidlm.eval.lm_eval import BraidLM
from braidlm.eval.words import THINGS

from . import report
from .report import Report, milliseconds

MOST = 1e-3  # nats
BRAID = "braid"


class Hf(HFLM):  # type: ignore[misc]  # lm-eval's classes are not checked
    """lm-eval's adapter of transformers, which counts the tokens that it runs, padding among them."""

    def __init__(self, place: str, dtype: str, batch: int) -> None:
        super().__init__(place, device="cpu", dtype=dtype, batch_size=batch)
        self.computed = 0
        self.model.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, _: Any, args: tuple[Any, ...], more: dict[str, Any]) -> None:
        self.computed += (args[0] if args else more["input_ids"]).numel()


@dataclass
class Side:
    """One side: its model, and of each kind of requests the seconds and the results by round, and the tokens."""

    model: Any
    seconds: dict[str, list[float]] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)
    results: dict[str, list[Any]] = field(default_factory=dict)

    def run(self, kind: str, requests: list[Instance]) -> None:
        """Answers a list of requests."""
        before, begun = self.model.computed, time.perf_counter()
        results = getattr(self.model, requests[0].request_type)(requests, disable_tqdm=True)
        self.seconds.setdefault(kind, []).append(time.perf_counter() - begun)
        self.results.setdefault(kind, []).append(results)
        self.tokens[kind] = self.model.computed - before


def prose(rng: Random, sentences: int) -> str:
    """Sentences without sense."""
    return "".join(sentence(rng) for _ in range(sentences)).strip()


def kinds(given: argparse.Namespace) -> dict[str, list[Instance]]:
    """Requests of each kind, the same for the same seed."""
    rng = Random(given.seed)
    examples = "\n\n".join(f"{prose(rng, 3)}\nAnswer: {rng.choice(THINGS)}" for _ in range(given.examples))
    asked = [f"{examples}\n\n{prose(rng, 3)}\nAnswer:" for _ in range(given.questions)]
    choices = [(one, f" {rng.choice(THINGS)} {rng.choice(THINGS)}") for one in asked for _ in range(4)]
    texts = [(prose(rng, 15),) for _ in range(given.questions)]
    options = {"until": ["\n\n"], "max_gen_toks": given.new_tokens}
    arguments: dict[str, tuple[str, list[Any]]] = {
        "choices": ("loglikelihood", choices),
        "texts": ("loglikelihood_rolling", texts),
        "answers": ("generate_until", [(one, dict(options)) for one in asked]),
    }
    return {
        name: [Instance(request_type=kind, doc={}, arguments=one, idx=n) for n, one in enumerate(several)]
        for name, (kind, several) in arguments.items()
    }


def difference(ours: Any, theirs: Any) -> float:
    """The greatest difference of log-likelihoods; 0 for equal texts, infinity for others."""
    if isinstance(ours[0], str):
        return 0.0 if ours == theirs else float("inf")
    values = [[one[0] if isinstance(one, tuple) else one for one in several] for several in (ours, theirs)]
    return max(abs(a - b) for a, b in zip(*values, strict=True))


def greatest_difference(kind: str, ours: Side, others: dict[str, Side]) -> float:
    """The greatest difference of results in any round, from any batch size of `hf`."""
    return max(
        difference(mine, theirs)
        for side in others.values()
        for mine, theirs in zip(ours.results[kind], side.results[kind], strict=True)
    )


def measure(given: argparse.Namespace, found: Report) -> None:
    """All kinds of requests, round after round, and what they show."""
    with tempfile.TemporaryDirectory(prefix="braidlm-lm-eval-") as place:
        directory = str(Path(place) / "model")
        braidlm.load(given.model, dtype=given.dtype).save(directory)
        ours = Side(BraidLM(directory, dtype=given.dtype))
        others = {f"hf, batch {batch}": Side(Hf(directory, given.dtype, batch)) for batch in given.batch}
        requests = kinds(given)
        sides = [ours, *others.values()]
        for number in range(given.rounds):
            for kind, several in requests.items():
                for side in sides if number % 2 == 0 else sides[::-1]:
                    side.run(kind, several)
    for kind in requests:
        show(kind, ours, others, given.dtype, found)


def show(kind: str, ours: Side, others: dict[str, Side], dtype: str, found: Report) -> None:
    """Table and checks of one kind of requests."""
    sides = {BRAID: ours} | others
    rows = [[name, *map(milliseconds, side.seconds[kind]), side.tokens[kind]] for name, side in sides.items()]
    found.table([kind, *(f"round {n + 1}" for n in range(len(ours.seconds[kind]))), "tokens"], rows)
    fastest = [min(times) for times in zip(*(side.seconds[kind] for side in others.values()), strict=True)]
    ratios = [theirs / mine for theirs, mine in zip(fastest, ours.seconds[kind], strict=True)]
    apart = greatest_difference(kind, ours, others)
    tokens = min(side.tokens[kind] for side in others.values())
    found.found[kind] = {
        "ratios": ratios,
        "difference": apart,
        "tokens": {name: side.tokens[kind] for name, side in sides.items()},
    }
    found.check(f"{kind}: faster, {spread(ratios)}", min(ratios) > 1)
    if dtype == "float32":
        found.check(f"{kind}: the same results, within {apart:.1e} nats", apart <= MOST)
    if kind != "texts":
        found.check(f"{kind}: fewer tokens, {ours.tokens[kind]:,} for {tokens:,}", ours.tokens[kind] < tokens)


if __name__ == "__main__":
    parser = report.parser(__doc__)
    parser.add_argument("--model", default="smollm2-135m", help="a model that transformers reads, too")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8], help="batch sizes of hf")
    parser.add_argument("--examples", type=int, default=5, help="examples before each question")
    parser.add_argument("--questions", type=int, default=12)
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    report.run(measure, parser)
