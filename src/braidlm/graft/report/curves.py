"""Curves of a training stage against the tokens that it has read, from its log."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...train.training_log import FILE, read_log

# Points of a curve: more of them do not show.
_POINTS = 240

# What a step's log line has that is no measure of learning.
_APART = ("step", "norm", "lr", "tokens", "seconds", "skipped", "router_aux_loss")


def stage_facts(name: str, directory: Path) -> dict[str, Any] | None:
    """Steps, tokens, seconds and curves of the stage in `directory`; None if it has made no step.

    curves: by name in the log (`loss`, `kl`, `agreement`), pairs of tokens and mean value. evaluations: the same on
    held-out text (`eval_loss`, ...).
    """
    log = read_log(directory / FILE)
    steps = [line for line in log if "loss" in line]
    if not steps:
        return None
    tokens, read = {0: 0}, 0
    for line in steps:
        read += line["tokens"]
        tokens[line["step"]] = read
    return {
        "stage": name,
        "steps": len(steps),
        "tokens": read,
        "seconds": sum(line["seconds"] for line in steps),
        "curves": {field: _thinned(points) for field, points in _points(steps, tokens).items()},
        "evaluations": _points([line for line in log if "loss" not in line], tokens),
    }


def _points(lines: Sequence[Mapping[str, Any]], tokens: Mapping[int, int]) -> dict[str, list[list[float]]]:
    """Points of each field that is a number, by the tokens read at its step; of blocks those on held-out text."""
    found: dict[str, list[list[float]]] = {}
    for line in lines:
        for field, value in line.items():
            plotted = field not in _APART and not field.startswith("block_")
            if plotted and isinstance(value, float) and math.isfinite(value) and line["step"] in tokens:
                found.setdefault(field, []).append([tokens[line["step"]], value])
    return found


def _thinned(points: Sequence[Sequence[float]]) -> list[list[float]]:
    """Means of neighbouring points, at most `_POINTS` of them."""
    many = -(-len(points) // _POINTS)
    groups = [points[begin : begin + many] for begin in range(0, len(points), many)]
    return [[group[-1][0], sum(value for _, value in group) / len(group)] for group in groups]
