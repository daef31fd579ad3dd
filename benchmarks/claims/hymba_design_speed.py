"""Hymba's table of designs: their order of throughput, at 8k tokens."""

import argparse
import statistics

from braidlm.bench.table import spread

from . import decoding
from .claim import Claim, Found, Row, Table
from .decoding import Side
from .hymba_designs import Design, designs
from .numbers import counted, positive
from .progress import Progress

_LLAMA = "6)"  # what the others are measured against


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the measurement."""
    decoding.add_options(parser, weights="bf16", steps=4, rounds=3)
    parser.add_argument("--context", type=positive, default=8000, help="tokens of a sequence (default: 8000)")
    parser.add_argument("--rows", type=positive, default=16, help="number of sequences (default: 16)")


def _built() -> list[tuple[Design, Side]]:
    """Designs that braidlm has layers for, each with its model's shape."""
    return [(design, Side(design.name, design.build())) for design in designs() if design.build is not None]


def find(given: argparse.Namespace, progress: Progress) -> Found:
    """Tokens a second of every design, in turns."""
    built = _built()
    specs = decoding.specs_of([side for _, side in built], given)
    model_of = decoding.models_of({_file(name): spec for name, spec in specs.items()}, given)

    def rate(name: str, number: int) -> float:
        times = (given.context, given.rows, given.steps, given.kv_dtype)
        return progress.piece(
            f"round {number + 1}, {name}, tokens/s",
            lambda: given.rows / decoding.step_seconds(model_of(_file(name)), *times),
        )

    return {
        "settings": decoding.settings_text(given),
        "context": given.context,
        "rows": given.rows,
        "published": {design.name: design.tokens_per_second for design, _ in built},
        "rates": decoding.in_turns(list(specs), given.rounds, rate),
    }


def _file(name: str) -> str:
    return f"hymba-design-{name.split(')')[0]}"


def order(speeds: dict[str, float]) -> list[str]:
    """Numbers of the designs, the fastest first."""
    return [name.split(")")[0] for name in sorted(speeds, key=lambda name: -speeds[name])]


def rank_correlation(one: list[str], other: list[str]) -> float:
    """Spearman's rank correlation of two orders of the same names: 1 if they agree, -1 if one is the other reversed."""
    apart = sum((place - other.index(name)) ** 2 for place, name in enumerate(one))
    return 1 - 6 * apart / (len(one) * (len(one) ** 2 - 1))


def _medians(found: Found) -> dict[str, float]:
    return {name: statistics.median(rates) for name, rates in found["rates"].items()}


def rows(found: Found) -> list[Row]:
    """The two orders."""
    published, ours = order(found["published"]), order(_medians(found))
    agreed = rank_correlation(published, ours)
    conditions = (
        f"{counted(found['rows'], 'sequence')} after {found['context']:,} tokens; the fitted shapes of 300M "
        f"parameters; {found['settings']}"
    )
    same = "the same order" if published == ours else "published on an A100 with 128 sequences"
    return [
        Row(
            f"fastest first: {', '.join(published)}",
            f"{', '.join(ours)} (rank correlation {agreed:.2f})",
            conditions,
            f"{same}; designs 2 to 4, 11 and 12 are left out: braidlm has no such layers, or no shape is known",
        )
    ]


def tables(found: Found) -> list[Table]:
    """Throughput of every design."""
    (llama,) = (name for name in found["rates"] if name.startswith(_LLAMA))
    lines = []
    for name, rates in found["rates"].items():
        ratios = [fast / slow for fast, slow in zip(rates, found["rates"][llama], strict=True)]
        published = found["published"][name]
        over = f"{published / found['published'][llama]:.2f}x"
        lines.append([name, f"{published:.1f}", over, f"{statistics.median(rates):.1f}", spread(ratios)])
    heads = ["design", "published, tok/s", "over Llama", "ours, tok/s", "over Llama"]
    return [Table("Throughput of the designs", heads, lines)]


CLAIM = Claim(
    name="hymba-designs-throughput",
    title="Hymba's table of designs: the order of throughput",
    source="Dong et al. 2024, [arXiv:2411.13676](https://arxiv.org/abs/2411.13676), table of designs (Table 1, design "
    "roadmap) in its thirteen lines: 8k tokens, batch 128 on an A100",
    find=find,
    rows=rows,
    tables=tables,
    add_options=add_options,
    timed=True,
)
