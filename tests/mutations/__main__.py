"""The harness on the command line; ends with 1 if a case is a fault, with what makes it again."""

import argparse
import sys
from collections import Counter

from .harness import KINDS, cases, table
from .verdicts import FAULT


def main() -> int:
    """Runs what the arguments ask for."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description=__doc__)
    parser.add_argument("--kind", action="append", choices=list(KINDS), help="kind of file, once or more (all)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the cases")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--count", type=int, default=100, help="number of cases of each kind")
    asked = parser.parse_args()
    counts: dict[str, Counter[str]] = {}
    for name in asked.kind or KINDS:
        counts[name] = Counter()
        for case in cases(KINDS[name], asked.seed, range(asked.first, asked.first + asked.count)):
            counts[name][case.verdict.word] += 1
            if case.verdict.word == FAULT:
                again = f"--kind {name} --seed {asked.seed} --first {case.number} --count 1"
                print(f"fault: {again}: {case.file}, {case.damage}: {case.verdict.why}", flush=True)
    print(table(counts))
    return 1 if any(found[FAULT] for found in counts.values()) else 0


sys.exit(main())
