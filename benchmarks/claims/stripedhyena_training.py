"""StripedHyena's training speed by length: what `benchmarks.training_pairs` measured, as docs/benchmarks.md has it.

The claim is not measured by its own command: figures, machine, date and conditions are those of that page's section.
"""

import argparse
import re
from itertools import dropwhile, takewhile
from pathlib import Path

from braidlm.errors import InputError
from braidlm.families.presets import preset

from ..training_pairs import LARGE
from .claim import Claim, Found, Row
from .progress import Progress

MEASUREMENTS = Path(__file__).parents[2] / "docs" / "benchmarks.md"
_SECTION = "## Hyena and attention in turn, beside attention alone"
# Its first paragraph: the command, the date, the machine, and under which conditions.
_MEASURED = re.compile(r"`(?P<command>[^`]+)`, (?P<date>\d{4}-\d\d-\d\d), (?P<machine>[^:]+): (?P<conditions>.+)")
_PUBLISHED = {32768: ("30%", "10%"), 65536: ("50%", "20%"), 131072: ("100%", "50%")}


def find(given: argparse.Namespace, progress: Progress) -> Found:
    """Lines of the measured table at the published lengths, where it has them, and how they were measured."""
    section = section_of(MEASUREMENTS.read_text(encoding="utf-8"), _SECTION)
    faster = {line["tokens"].replace(",", ""): line["faster"] for line in first_table(section)}
    return {
        "measured": measured(section),
        "layers": {"ours": LARGE.layers, "published": len(preset("stripedhyena-7b").spec.blocks)},
        "faster": {str(tokens): faster.get(str(tokens)) for tokens in _PUBLISHED},
    }


def section_of(text: str, heading: str) -> str:
    """Text of a section of a Markdown page below its heading."""
    _, found, rest = text.partition(f"{heading}\n")
    if not found:
        raise InputError(f"there is no section {heading!r} in what was measured")
    return rest.partition("\n## ")[0]


def measured(section: str) -> dict[str, str]:
    """How the figures of a section were measured, from its first paragraph: command, date, machine and conditions."""
    paragraph = " ".join(section.strip().partition("\n\n")[0].split())
    found = _MEASURED.fullmatch(paragraph)
    if found is None:
        raise InputError(f"a section begins with `COMMAND`, DATE, MACHINE: CONDITIONS, but here is {paragraph[:80]!r}")
    return found.groupdict()


def first_table(section: str) -> list[dict[str, str]]:
    """First Markdown table of a section, line by line, its cells by the names of their columns."""
    inside = dropwhile(lambda line: not line.startswith("|"), section.splitlines())
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in takewhile(str.strip, inside)]
    if len(cells) < 3:
        raise InputError("there is no section with a table in what was measured")
    heads, _, *lines = cells
    return [dict(zip(heads, line, strict=True)) for line in lines]


def rows(found: Found) -> list[Row]:
    """A row for each published length, also where it was not measured."""
    how, layers = found["measured"], found["layers"]
    conditions = f"{how['date']}, {how['machine']} (commit not recorded); {how['conditions'].rstrip('.')}"
    why = (
        f"no embedding, head and optimizer, and {layers['ours']} layers instead of {layers['published']}; attention by "
        "torch's flash kernel for the CPU on both sides, whose share of a step is not that of a GPU's"
    )
    made = []
    for tokens, (together, hessian) in _PUBLISHED.items():
        published = f"{tokens:,} tokens: more than {together} faster (Together), more than {hessian} (hessian.AI)"
        ours = found["faster"][str(tokens)]
        made.append(Row(published, ours, conditions, why) if ours else Row(published, "not measured", "", ""))
    return made


CLAIM = Claim(
    name="stripedhyena-training",
    title="StripedHyena-7B: training faster than a transformer, the more the longer the sequence",
    source="[Together, 8 December 2023](https://www.together.ai/blog/stripedhyena-7b) and "
    "[hessian.AI](https://hessian.ai/architectures-for-longer-sequences-and-efficient-inference-stripedhyena/): "
    "training end to end beside a transformer with FlashAttention v2. Measured by `benchmarks.training_pairs`; "
    "the command copies it from [benchmarks.md](benchmarks.md#hyena-and-attention-in-turn-beside-attention-alone)",
    find=find,
    rows=rows,
)
