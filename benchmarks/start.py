"""Cold start: from starting `braid generate` to its first token, beside what `import torch` takes alone.

    python -m benchmarks.start                            # SmolLM2-135M from its GGUF file
    python -m benchmarks.start --models smollm2-135m DIRECTORY

Every run is a process of its own; `python -c "import torch"` and each model take turns, which one begins changes from
round to round, and the first round only fills the system's caches. A time ends when the first byte of the answer
comes, or for torch when the process ends; beside it stands the processor time of the whole process. A start must take
at most 1.5 times as long as torch of the same round, and 0.7 s, in the median. Python keeps compiled modules in a
place of its own for this, as it does for an installed package.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence

from braidlm.bench.table import spread

from . import report
from .report import Report

TIMES, MORE_S = 1.5, 0.7
TORCH = "import torch"


def command_of(model: str) -> list[str]:
    """What is run for a model; `TORCH` is the floor."""
    if model == TORCH:
        return [sys.executable, "-c", TORCH]
    return [sys.executable, "-m", "braidlm", "generate", model, "Hello", "--max-tokens", "1"]


def seconds(command: Sequence[str], environment: Mapping[str, str]) -> tuple[float, float]:
    """Seconds to the first byte of a process's answer, or to its end, and its processor time."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        taken = time.perf_counter() - begun
        process.stdout.read()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with exit status {process.returncode}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return taken, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(given: argparse.Namespace, report: Report) -> None:
    """All rounds."""
    names = [TORCH, *given.models]
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory(prefix="braidlm-start-") as compiled:
        environment = os.environ | {"PYTHONPYCACHEPREFIX": compiled}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        for number in range(given.rounds + 1):
            for name in names if number % 2 else reversed(names):
                taken = seconds(command_of(name), environment)
                if number:
                    found[name].append(taken)
    rows = []
    floors = [wall for wall, _ in found[TORCH]]
    for name, times in found.items():
        walls = [wall for wall, _ in times]
        allowed = [wall / (TIMES * floor + MORE_S) for wall, floor in zip(walls, floors, strict=True)]
        shown = [f"{statistics.median(column):.2f} s" for column in zip(*times, strict=True)]
        rows.append([name, *shown, "" if name == TORCH else spread(allowed)])
        if name != TORCH:
            middle = statistics.median(allowed)
            report.check(f"{name} starts in {middle:.2f} of {TIMES} times torch and {MORE_S} s", middle <= 1)
    report.found |= {"seconds": found}
    report.table(["started", "to the first token", "processor time", "share of what is allowed"], rows)


def main() -> None:
    """Reads the command line."""
    parser = report.parser(__doc__)
    parser.add_argument("--models", nargs="+", default=["smollm2-135m"], help="presets, directories or GGUF files")
    parser.add_argument("--rounds", type=int, default=7)
    report.run(measure, parser)


if __name__ == "__main__":
    main()
