"""Whether memory grows: a trend among sizes that wander with the work."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

_SPAN_S = 30.0  # sizes within it depend on each other: an engine gives freed memory back as often


class Trend(NamedTuple):
    """MiB a minute, and the standard error."""

    slope: float
    error: float


def trend(sizes: Sequence[tuple[float, int]]) -> Trend:
    """The straight line through the means of half minutes of (second, bytes); at least three of them."""
    spans: dict[int, list[int]] = {}
    for second, size in sizes:
        spans.setdefault(int(second / _SPAN_S), []).append(size)
    minutes = [(span + 0.5) * _SPAN_S / 60 for span in spans]
    means = [statistics.mean(span) / 2**20 for span in spans.values()]
    line = statistics.linear_regression(minutes, means)
    off = sum((mean - line.slope * at - line.intercept) ** 2 for at, mean in zip(minutes, means, strict=True))
    middle = statistics.mean(minutes)
    return Trend(line.slope, math.sqrt(off / (len(means) - 2) / sum((at - middle) ** 2 for at in minutes)))
