"""Reports of comparisons: a Markdown table for people, a JSON object for programs."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from .run import Comparison, Measured


def markdown(comparisons: Sequence[Comparison], baselines: Sequence[str]) -> str:
    """Report in Markdown: speeds, then what each side was and what memory it took, then why any is missing."""
    parts = (_speeds(comparisons, baselines), _sides(comparisons), _absent(comparisons))
    return "\n\n".join(part for part in parts if part)


def to_json(comparisons: Sequence[Comparison], machine: Mapping[str, Any], **settings: Any) -> dict[str, Any]:
    """Report as data: everything that was measured, and where."""
    return {"machine": dict(machine), **settings, "comparisons": [item.to_json() for item in comparisons]}


def conditions(machine: Mapping[str, Any], comparisons: Sequence[Comparison], threads: int, rounds: int) -> str:
    """Conditions of a measurement in a few sentences."""
    read = [f"{item.rates.bandwidth / 1e9:.1f}" for item in comparisons]
    least, most = min(read, key=float), max(read, key=float)
    rates = comparisons[0].rates
    flags = ", ".join(machine["instructions"]) or "no known vector instructions"
    return (
        f"{machine['processor']} ({flags}), {threads} of {machine['cores']} cores: "
        f"{least if least == most else f'{least} to {most}'} GB/s read, matrix products {rates.products / 1e9:.0f} "
        f"GFLOP/s in {rates.dtype}, {rates.float32 / 1e9:.0f} in float32. braidlm {machine['braidlm']} "
        f"({machine['commit'] or 'no checkout'}), torch {machine['torch']}, Python {machine['python']}; "
        f"{rounds} rounds, median (min-max). Other processes took {machine['busy']:.0%} of the cores before it began."
    )


def _speeds(comparisons: Sequence[Comparison], baselines: Sequence[str]) -> str:
    heads = ["model", "weights", "task", "braidlm tok/s", "of floor"]
    heads += [head for baseline in baselines for head in (f"{baseline} tok/s", "braidlm is")]
    rows = [_row(item, measured, baselines) for item in comparisons for measured in item.measured]
    return grid(heads, rows)


def _row(item: Comparison, measured: Measured, baselines: Sequence[str]) -> list[str]:
    cells = [item.model, item.precision, measured.task.label, _speed(measured, "braidlm"), f"{measured.of_floor:.0%}"]
    for baseline in baselines:
        there = baseline in measured.seconds
        cells += [_speed(measured, baseline), spread(measured.ratios(baseline))] if there else ["-", "-"]
    return cells


def _speed(measured: Measured, side: str) -> str:
    speed = measured.speed(side)
    return f"{speed:.0f}" if speed >= 100 else f"{speed:.1f}"


def spread(ratios: Sequence[float]) -> str:
    """Ratio with its spread: the median round, and the least and the most."""
    return f"{statistics.median(ratios):.2f}x ({min(ratios):.2f}-{max(ratios):.2f})"


def _sides(comparisons: Sequence[Comparison]) -> str:
    heads = ["model", "weights", "side", "setting", "memory", "at its peak"]
    rows = [
        [item.model, item.precision, facts["library"], facts["setting"], *_memory(item, side)]
        for item in comparisons
        for side, facts in item.sides.items()
    ]
    return grid(heads, rows)


def _memory(item: Comparison, side: str) -> list[str]:
    return [f"{item.memory[side][when] / 2**20:.0f} MiB" for when in ("now", "peak")]


def _absent(comparisons: Sequence[Comparison]) -> str:
    return "\n".join(
        f"- {item.model}, {item.precision}: {reason}" for item in comparisons for reason in item.absent.values()
    )


def grid(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
