"""The page docs/claims.md, made of the committed results alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from braidlm.bench.table import grid

from .claim import Claim
from .results import COMMITTED, read_result

PAGE = Path(__file__).parents[2] / "docs" / "claims.md"

_HEAD = """# Published claims

What the makers of hybrid models say of their size and speed, found again with braidlm: by exact arithmetic where bytes
decide, measured on a CPU with random weights where speed decides. This page is written by a command: what braidlm has
is taken from the results in `benchmarks/claims/results/`; what was published, and why the two differ, is said in the
module of each claim.

## Run them again

```sh
pip install torch==2.13.0 && pip install -e '.[test]'    # from a clone
python -m benchmarks.claims --list              # every claim, and whether it has a result
python -m benchmarks.claims hymba-cache         # finds one, writes its result, and then this page
python -m benchmarks.claims --page              # writes this page alone
```

Claims about bytes take seconds and give the same result everywhere. The claim about training copies what a command of
its own measured, which [benchmarks.md](benchmarks.md) has. The other claims about speed take minutes on two cores and
want a quiet machine: models of the full published shape, of random weights (which are as fast as trained ones),
quantized, are written to `--models` once and memory-mapped from there; both sides take turns in one process, round by
round, and a ratio is the median of the rounds' ratios with the smallest and the largest. A measurement that is stopped
goes on where it was when the command is given again. `--tiny` runs the same on small models, to see that it works; its
result is not kept."""


def page(claims: Sequence[Claim], directory: Path = COMMITTED) -> str:
    """Markdown of all claims that have a result; those that have none are listed at the end, with their commands."""
    found = {claim: read_result(directory, claim) for claim in claims}
    parts = [_HEAD, *(_section(claim, result) for claim, result in found.items() if result is not None)]
    rest = [claim for claim, result in found.items() if result is None]
    if rest:
        lines = [f"- {claim.title}: `python -m benchmarks.claims {claim.name}`. {claim.source}." for claim in rest]
        parts.append("## Without a result yet\n\n" + "\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _section(claim: Claim, result: dict[str, Any]) -> str:
    command = " ".join(["python -m benchmarks.claims", claim.name, *result["arguments"]])
    parts = [f"## {claim.title}", f"{claim.source}.", f"`{command}`{_where(result)}"]
    found = result["found"]
    parts.append(grid(["published", "ours", "conditions", "why different"], [list(row) for row in claim.rows(found)]))
    for table in claim.tables(found):
        parts += [f"{table.title}:", grid(table.heads, [list(row) for row in table.rows])]
    return "\n\n".join(parts)


def _where(result: dict[str, Any]) -> str:
    """Where and when a timed result was measured."""
    if "machine" not in result:
        return ""
    machine = result["machine"]
    flags = ", ".join(machine["instructions"]) or "no known vector instructions"
    return (
        f", {result['date']}: {machine['processor']} ({flags}), {machine['threads']} of {machine['cores']} cores, "
        f"{machine['memory'] / 2**30:.0f} GiB; torch {machine['torch']}, commit {machine['commit'] or 'not known'}. "
        f"Other processes took {machine['busy']:.0%} of the cores before it began{_end(result)}"
    )


def _end(result: dict[str, Any]) -> str:
    """When a measurement ended, and at which commit, if not where it began."""
    begun, ended = {"date": result["date"], "commit": result["machine"]["commit"]}, result["ended"]
    if begun == ended:
        return ""
    return f"; it was continued and ended on {ended['date']}, commit {ended['commit'] or 'not known'}"
