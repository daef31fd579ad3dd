"""StripedHyena's training speed by length: what `benchmarks.training_pairs` measured, as docs/benchmarks.md has it."""

import argparse
from itertools import dropwhile, takewhile
from pathlib import Path

from braidlm.errors import InputError

from .claim import Claim, Found, Row
from .progress import Progress

MEASUREMENTS = Path(__file__).parents[2] / "docs" / "benchmarks.md"
_SECTION = "## Hyena and attention in turn, beside attention alone"
_PUBLISHED = {32768: ("30%", "10%"), 65536: ("50%", "20%"), 131072: ("100%", "50%")}


def find(given: argparse.Namespace, progress: Progress) -> Found:
    """Lines of the measured table at the published lengths."""
    lines = first_table(MEASUREMENTS.read_text(encoding="utf-8"), _SECTION)
    faster = {line["tokens"].replace(",", ""): line["faster"] for line in lines}
    return {"faster": {str(tokens): faster[str(tokens)] for tokens in _PUBLISHED if str(tokens) in faster}}


def first_table(text: str, section: str) -> list[dict[str, str]]:
    """First Markdown table of a section, line by line, its cells by the names of their columns."""
    _, found, rest = text.partition(f"{section}\n")
    inside = dropwhile(lambda line: not line.startswith("|"), rest.partition("\n## ")[0].splitlines())
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in takewhile(str.strip, inside)]
    if not found or len(cells) < 3:
        raise InputError(f"there is no section {section!r} with a table in what was measured")
    heads, _, *lines = cells
    return [dict(zip(heads, line, strict=True)) for line in lines]


def rows(found: Found) -> list[Row]:
    """A row for each length that was measured."""
    conditions = "one step of two layers of the 7B's shape, one of them Hyena; batch 1, bfloat16, CPU; one round"
    why = (
        "no embedding, head and optimizer, and 2 layers instead of 32; attention by torch's flash kernel for the CPU "
        "on both sides, whose share of a step is not that of a GPU's"
    )
    made = []
    for tokens, (together, hessian) in _PUBLISHED.items():
        if str(tokens) in found["faster"]:
            published = f"{tokens:,} tokens: more than {together} faster (Together), more than {hessian} (hessian.AI)"
            made.append(Row(published, found["faster"][str(tokens)], conditions, why))
    return made


CLAIM = Claim(
    name="stripedhyena-training",
    title="StripedHyena-7B: training faster than a transformer, the more the longer the sequence",
    source="[Together, 8 December 2023](https://www.together.ai/blog/stripedhyena-7b) and "
    "[hessian.AI](https://hessian.ai/architectures-for-longer-sequences-and-efficient-inference-stripedhyena/): "
    "training end to end beside a transformer with FlashAttention v2. Measured by `benchmarks.training_pairs`; "
    "more in [benchmarks.md](benchmarks.md#hyena-and-attention-in-turn-beside-attention-alone)",
    find=find,
    rows=rows,
)
