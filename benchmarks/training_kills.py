"""Training under `kill -9`: a run that keeps a checkpoint each step is killed at random moments, and goes on.

    python -m benchmarks.training_kills --kills 20

After the last kill the steps that are kept must have the losses, bit for bit, of a run that nothing disturbed, and at
most the step that was being kept may be lost.
"""

import argparse
import tempfile
from pathlib import Path

from tests.train.killed import both, kill

from . import report
from .report import Report


def measure(given: argparse.Namespace, report: Report) -> None:
    """All kills, then the comparison."""
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / "run"
        seen = kill(out, given.kills, given.seed)
        step, found, whole = both(out, Path(directory) / "calm")
    report.found = {"kills": given.kills, "told": seen, "kept": step}
    report.say(f"{given.kills} kills, {seen} steps told, {step} kept")
    report.check("at most the step in flight is lost", step >= seen - 1)
    report.check(f"the losses of all {step} steps are those of the run without kills", found == whole and step > 0)


if __name__ == "__main__":
    parser = report.parser(__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    report.run(measure, parser)
