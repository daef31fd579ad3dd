"""Plots as inline SVG: lines and bars, which take their colours from the page's style and need nothing else."""

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from .words import short

_WIDTH, _HEIGHT = 560, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 22, 14, 46
# Ratio of the ends of a range from which a logarithmic scale shows more than a plain one.
_LEAST_LOG = 3.0
# Points of a line that are marked; more of them would hide it.
_MARKED = 30

Point = tuple[float, float]


class Line(NamedTuple):
    """Line of a plot: its name in the legend, the class that styles it, its points."""

    name: str
    style: str
    points: Sequence[Point]


class Bar(NamedTuple):
    """Bar of a plot: what stands below it, the class that styles it, its height."""

    label: str
    style: str
    value: float


class Axis(NamedTuple):
    """Axis of a plot: its label, unit included, and whether it is logarithmic. zero: it begins at 0."""

    label: str
    log: bool = False
    zero: bool = False


class Scale:
    """Scale of an axis from values to places on the page, between `begin` and `end`."""

    def __init__(self, axis: Axis, values: Sequence[float], begin: float, end: float) -> None:
        low, high = min(values), max(values)
        self._log = axis.log and low > 0 and (low == high or high / low >= _LEAST_LOG)
        if axis.zero and not self._log:
            low, high = min(0.0, low), max(0.0, high)
        if low == high:
            low, high = (low / 2, high * 2) if self._log else (low - 0.5 * (not axis.zero), high + 0.5)
        self.ticks = _log_ticks(low, high) if self._log else _ticks(low, high)
        self._low, self._high = min(low, self.ticks[0]), max(high, self.ticks[-1])
        self._begin, self._end = begin, end

    def place(self, value: float) -> float:
        """Place of a value."""
        low, high, value = (math.log(one) if self._log else one for one in (self._low, self._high, value))
        return self._begin + (value - low) / (high - low) * (self._end - self._begin)


def _ticks(low: float, high: float) -> list[float]:
    """About five round values that enclose a range."""
    power = 10 ** math.floor(math.log10((high - low) / 4))
    step = next(step for step in (power, 2 * power, 2.5 * power, 5 * power, 10 * power) if (high - low) / step <= 5)
    return [index * step for index in range(math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten that a range holds, with steps between them where they are few; the ends if there are none."""
    for steps in ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0)):
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        found = [step * 10.0**power for power in powers for step in steps if low <= step * 10.0**power <= high]
        if len(found) >= 3:
            return found
    return [low, high]


def line_plot(title: str, x: Axis, y: Axis, lines: Sequence[Line]) -> str:
    """Figure of lines with their legend; "" if there is no point."""
    shown = [line for line in lines if line.points]
    if not shown:
        return ""
    points = [point for line in shown for point in line.points]
    across = Scale(x, [point[0] for point in points], _LEFT, _WIDTH - _RIGHT)
    up = Scale(y, [point[1] for point in points], _HEIGHT - _BOTTOM, _TOP)
    parts = [*_frame(x, y, up), *_x_ticks(across)]
    for line in shown:
        places = [(across.place(px), up.place(py)) for px, py in line.points]
        if len(places) > 1:
            path = " ".join(f"{px:.1f},{py:.1f}" for px, py in places)
            parts.append(f'<polyline class="line {line.style}" points="{path}"/>')
        if len(places) <= _MARKED:
            parts += [f'<circle class="mark {line.style}" cx="{px:.1f}" cy="{py:.1f}" r="3.2"/>' for px, py in places]
    return _figure(title, parts, _legend([(line.name, line.style) for line in shown]))


def bar_plot(title: str, x: str, y: Axis, bars: Sequence[Bar], legend: Sequence[tuple[str, str]]) -> str:
    """Figure of bars; `legend` has names and classes. "" if there is no bar that is not 0."""
    if not any(bar.value for bar in bars):
        return ""
    up = Scale(y, [bar.value for bar in bars], _HEIGHT - _BOTTOM, _TOP)
    parts, space = _frame(Axis(x), y, up), (_WIDTH - _LEFT - _RIGHT) / len(bars)
    every, bottom = -(-len(bars) // 16), up.place(0.0)
    for index, bar in enumerate(bars):
        left, top = _LEFT + (index + 0.12) * space, up.place(bar.value)
        box = f'x="{left:.1f}" y="{min(top, bottom):.1f}" width="{0.76 * space:.1f}" height="{abs(bottom - top):.1f}"'
        said = f"{escape(bar.label)}: {short(bar.value)}"
        parts.append(f'<rect class="bar {bar.style}" {box}><title>{said}</title></rect>')
        if index % every == 0:
            parts.append(_text(left + 0.38 * space, _HEIGHT - _BOTTOM + 16, bar.label, "middle"))
    return _figure(title, parts, _legend(legend))


def _frame(x: Axis, y: Axis, up: Scale) -> list[str]:
    """Horizontal lines at the values of the y axis, and the labels of both axes."""
    parts = []
    for tick in up.ticks:
        place = up.place(tick)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{place:.1f}" y2="{place:.1f}"/>')
        parts.append(_text(_LEFT - 6, place + 4, short(tick), "end"))
    parts.append(_text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 8, x.label, "middle"))
    middle = (_TOP + _HEIGHT - _BOTTOM) / 2
    parts.append(
        f'<text class="label" text-anchor="middle" transform="translate(14 {middle:.0f}) rotate(-90)">'
        f"{escape(y.label)}</text>"
    )
    return parts


def _x_ticks(across: Scale) -> list[str]:
    parts, bottom = [], _HEIGHT - _BOTTOM
    for tick in across.ticks:
        place = across.place(tick)
        parts.append(f'<line class="grid" x1="{place:.1f}" x2="{place:.1f}" y1="{bottom}" y2="{bottom + 4}"/>')
        parts.append(_text(place, bottom + 17, short(tick), "middle"))
    return parts


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text class="label" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _legend(names: Sequence[tuple[str, str]]) -> str:
    swatch = '<svg class="swatch" viewBox="0 0 28 10"><line class="line {}" x1="1" x2="27" y1="5" y2="5"/></svg>'
    items = "".join(f"<li>{swatch.format(style)}{escape(name)}</li>" for name, style in names)
    return f'<ul class="legend">{items}</ul>'


def _figure(title: str, parts: Sequence[str], legend: str) -> str:
    drawn = f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
    return f"<figure><figcaption>{escape(title)}</figcaption>{drawn}{legend}</figure>"
