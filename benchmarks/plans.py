"""Plans beside the truth: what `braid plan` forecasts for models of several families, and what is measured.

    python -m benchmarks.plans checks                            # memory and speed, in three precisions
    python -m benchmarks.plans checks --models mamba-130m --precisions bf16
    python -m benchmarks.plans sessions                          # 16 sessions of 131,072 tokens, planned and held

The machine is measured before each model (`braid plan --calibrate`), since a shared one does not stay as fast; each
check is a process of its own (`braid plan --check`).
Models have random weights; of the large ones some blocks are run, at their full width. A ratio is the forecast over the
median of the rounds. Memory must be within 10%, speed within 25%, states exact.

`sessions` holds the states of all sessions in an engine's slots (see `plan_sessions`).
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import braidlm
from braidlm.errors import InputError
from braidlm.families.presets import preset
from braidlm.planner import probe
from braidlm.spec import ModelSpec

from . import plan_sessions, report
from .report import Report

MEMORY, SPEED = 0.10, 0.25
PRECISIONS: Mapping[str, Sequence[str]] = {
    "bf16": (),
    "int8": ("--quantize", "int8"),
    "int4": ("--quantize", "int4"),
}
# What a check measures, as it names it, with the error that is allowed.
MEASURED = {
    "state, bytes": 0.0,
    "resident memory, bytes": MEMORY,
    "time to first token, seconds": SPEED,
    "tokens a second, one sequence": SPEED,
    "tokens a second, all sessions": SPEED,
}


class Part(NamedTuple):
    """A preset, the range of its blocks that are run (None: all), and the size of the vocabulary if it is cut."""

    preset: str
    blocks: tuple[int, int] | None = None
    vocab: int | None = None

    @property
    def spec(self) -> ModelSpec:
        """Spec of what is run."""
        spec = preset(self.preset).spec
        begin, end = self.blocks or (0, len(spec.blocks))
        return replace(spec, blocks=spec.blocks[begin:end], vocab=self.vocab or spec.vocab)


MODELS = {
    "mamba-130m": Part("mamba-130m"),
    "mamba2-130m": Part("mamba2-130m"),
    "smollm2-135m": Part("smollm2-135m"),
    "granite-4.0-h-350m": Part("granite-4.0-h-350m"),
    "hymba-1.5b, 8 blocks": Part("hymba-1.5b", (0, 8)),
    "stripedhyena-7b, 4 blocks": Part("stripedhyena-7b", (0, 4)),
    "bamba-9b, 4 blocks": Part("bamba-9b", (6, 10), 32000),
    "granite-4.0-tiny, 4 blocks": Part("granite-4.0-tiny", (2, 6), 32000),
}


def plan(*arguments: str) -> dict[str, Any]:
    """What `braid plan` prints with --json, in a process of its own."""
    command = [sys.executable, "-m", "braidlm", "plan", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(done.stderr.strip())
    return json.loads(done.stdout) if done.stdout else {}


def ratios(rounds: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Ratios of one model's forecasts to the medians of what was measured, by name."""
    found = {}
    for name in MEASURED:
        each = [next(item for item in one["checked"] if item["name"] == name) for one in rounds]
        found[name] = each[0]["forecast"] / statistics.median(item["measured"] for item in each)
    return found


def row(name: str, rounds: Sequence[Mapping[str, Any]]) -> list[str]:
    """Row of the table: of each number its forecast, the median of what was measured, and the ratio."""
    cells = [name]
    for number, ratio in ratios(rounds).items():
        forecast = next(item["forecast"] for item in rounds[0]["checked"] if item["name"] == number)
        unit = 2**20 if number.endswith("bytes") else 1
        cells.append(f"{forecast / unit:.4g} / {forecast / ratio / unit:.4g} = {ratio:.3f}")
    return cells


def check(given: argparse.Namespace, report: Report) -> None:
    """All models in all precisions."""
    report.say(f"{probe.machine()['processor']}, {probe.busy_share():.0%} of it busy beside this\n")
    rows, workload = [], ("--context", str(given.context), "--sessions", str(given.sessions), *_threads(given))
    for name in given.models:
        with tempfile.TemporaryDirectory(prefix="braidlm-plans-") as place:
            directory = Path(place) / "model"
            braidlm.build(MODELS[name].spec, dtype="bfloat16").save(directory, "braidlm")
            plan("--calibrate", *_threads(given))
            for precision in given.precisions:
                asked = (str(directory), *workload, *PRECISIONS[precision], "--check", "--json")
                rounds = [plan(*asked) for _ in range(given.rounds)]
                report.found[f"{name}, {precision}"] = rounds
                rows.append(row(f"{name}, {precision}", rounds))
                report.say(" | ".join(rows[-1]))
    report.table(["model", *(name.replace("bytes", "MiB") for name in MEASURED)], rows)
    for number, allowed in MEASURED.items():
        found = {name: ratios(rounds)[number] for name, rounds in report.found.items()}
        worst = max(found, key=lambda name: abs(found[name] - 1))
        what = f"{number}: within {allowed:.0%}; the worst is {found[worst]:.3f}, of {worst}"
        report.check(what, abs(found[worst] - 1) <= allowed)


def _threads(given: argparse.Namespace) -> tuple[str, ...]:
    return () if given.threads is None else ("--threads", str(given.threads))


def measure(given: argparse.Namespace, report: Report) -> None:
    """The part that is asked for."""
    if given.part == "sessions":
        plan_sessions.hold(given, report)
    else:
        check(given, report)


def main() -> None:
    """Reads the command line."""
    arguments = report.parser(__doc__)
    parts = arguments.add_subparsers(dest="part", required=True)
    checks = parts.add_parser("checks", help="forecast beside measurement")
    checks.add_argument("--models", nargs="*", default=list(MODELS), choices=MODELS, metavar="MODEL")
    checks.add_argument("--precisions", nargs="*", default=list(PRECISIONS), choices=PRECISIONS)
    checks.add_argument("--context", type=int, default=1024, help="tokens of each prompt")
    checks.add_argument("--sessions", type=int, default=4, help="sequences that are held, and decode at once")
    checks.add_argument("--rounds", type=int, default=3)
    checks.add_argument("--threads", type=int)
    plan_sessions.add_options(parts.add_parser("sessions", help="sessions of a long context, planned and held"))
    report.run(measure, arguments)


if __name__ == "__main__":
    main()
