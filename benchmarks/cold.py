"""What keeping states costs a request of which nothing is kept: an engine that keeps them beside one that does not.

    python -m benchmarks.cold

Both engines run the same weights in the same process, one at a time, in turns; which one begins changes from round
to round. A request is a random prompt and one token. The cache is the usual gibibyte: it fills up in the course of
the rounds, so that what making room costs is in the figures. A ratio is the seconds with states kept over those
without, the median of the rounds with the smallest and the largest; it must be at most 1.02.
"""

import argparse
import random
import statistics
import time

import braidlm
from braidlm.bench.table import spread
from braidlm.engine import Engine, Limits, Request
from braidlm.generation.sampling import Sampling

from . import report
from .report import Report, milliseconds
from .streams import random_ids

MOST = 1.02


def seconds(engine: Engine, ids: list[int]) -> float:
    """From a request to its first token, which is its last."""
    begun = time.perf_counter()
    for _ in engine.submit(Request(ids=tuple(ids), sampling=Sampling(max_tokens=1))):
        pass
    return time.perf_counter() - begun


def measure(given: argparse.Namespace, report: Report) -> None:
    """All lengths, round by round."""
    model, rng = braidlm.build(given.model, dtype="bfloat16"), random.Random(given.seed)
    found: dict[int, dict[str, list[float]]] = {}
    with model.engine() as keeping, model.engine(limits=Limits(cache_memory=0)) as forgetting:
        engines = {"kept": keeping, "not kept": forgetting}
        for length in given.lengths:
            found[length] = {name: [] for name in engines}
            for number in range(given.rounds + 1):
                names = list(engines) if number % 2 else list(reversed(engines))
                for name in names:
                    taken = seconds(engines[name], random_ids(rng, length, model.spec.vocab))
                    if number:  # the first round warms up
                        found[length][name].append(taken)
    rows = []
    for length, times in found.items():
        ratios = [kept / without for kept, without in zip(*times.values(), strict=True)]
        rows.append(
            [given.model, length, *(milliseconds(statistics.median(t)) for t in times.values()), spread(ratios)]
        )
        report.check(
            f"{length} tokens take {statistics.median(ratios):.3f} times as long with states kept (at most {MOST})",
            statistics.median(ratios) <= MOST,
        )
    report.found |= {"model": given.model, "seconds": found}
    report.table(["model", "prompt", "states kept", "not kept", "ratio"], rows)


def main() -> None:
    """Reads the command line."""
    parser = report.parser(__doc__)
    parser.add_argument("--model", default="granite-4.0-h-350m", help="a preset, with random weights in bfloat16")
    parser.add_argument("--lengths", type=int, nargs="+", default=[2048, 8192])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seed", type=int, default=0)
    report.run(measure, parser)


if __name__ == "__main__":
    main()
