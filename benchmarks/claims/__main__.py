"""Command line of the claims: `python -m benchmarks.claims NAME`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from braidlm.errors import BraidError, InputError
from braidlm.planner import probe

from . import (
    bamba_output_length,
    granite_sessions,
    hymba_cache,
    hymba_design_speed,
    hymba_designs,
    hymba_throughput,
    mamba2_scan,
    mamba_throughput,
    stripedhyena_cache,
    stripedhyena_training,
)
from .claim import Claim
from .page import PAGE, page
from .progress import Progress
from .results import COMMITTED, progress_file, read_result, result_of, start_of, write_result

CLAIMS: tuple[Claim, ...] = (
    hymba_cache.CLAIM,
    hymba_throughput.CLAIM,
    hymba_designs.CLAIM,
    hymba_design_speed.CLAIM,
    stripedhyena_cache.CLAIM,
    stripedhyena_training.CLAIM,
    granite_sessions.CLAIM,
    mamba_throughput.CLAIM,
    mamba2_scan.CLAIM,
    bamba_output_length.CLAIM,
)


def parser() -> argparse.ArgumentParser:
    """The command line: a command for each claim."""
    made = argparse.ArgumentParser(prog="python -m benchmarks.claims", description=__doc__)
    made.add_argument("--list", action="store_true", help="every claim, and whether it has a result")
    made.add_argument("--page", action="store_true", help="write docs/claims.md from the results")
    commands = made.add_subparsers(dest="claim")
    for claim in CLAIMS:
        command = commands.add_parser(claim.name, help=claim.title, description=claim.title)
        command.add_argument(
            "--results", type=Path, default=COMMITTED, help="directory of the result (default: the committed ones)"
        )
        claim.add_options(command)
    return made


def run(arguments: Sequence[str]) -> int:
    """Runs a command; gives the exit code."""
    given = parser().parse_args(arguments)
    if given.list:
        for claim in CLAIMS:
            there = "found" if read_result(COMMITTED, claim) else "not yet"
            print(f"{claim.name:24} {there:8} {claim.title}")
        return 0
    if given.claim is not None:
        _find(next(claim for claim in CLAIMS if claim.name == given.claim), given, arguments)
    elif not given.page:
        raise InputError(f"name a claim: {', '.join(claim.name for claim in CLAIMS)}; or --list, or --page")
    if given.page or (given.results == COMMITTED and not getattr(given, "tiny", False)):
        PAGE.write_text(page(CLAIMS), encoding="utf-8")
        print(f"{PAGE} is written")
    return 0


def _find(claim: Claim, given: argparse.Namespace, arguments: Sequence[str]) -> None:
    """Finds a claim, stores the result and prints its rows; of a tiny run, prints alone."""
    keeps = not getattr(given, "tiny", False)
    settings = {name: str(value) for name, value in vars(given).items()}
    progress = Progress(progress_file(given.results, claim) if keeps else None, settings, print)
    start = progress.piece("start", lambda: start_of(given.threads, probe.busy_share())) if claim.timed else None
    own = arguments[arguments.index(claim.name) + 1 :]
    result = result_of(claim, own, claim.find(given, progress), start)
    if keeps:
        write_result(given.results, claim, result)
        progress.remove()
    for row in claim.rows(result["found"]):
        print(f"{row.published} | {row.ours} | {row.conditions}")


if __name__ == "__main__":
    try:
        sys.exit(run(sys.argv[1:]))
    except BraidError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
