"""Numbers and times in words for people; a number that is not there is a dash."""

NONE = "-"

_UNITS = (("G", 1e9), ("M", 1e6), ("k", 1e3))


def number(value: float | None, digits: int = 2) -> str:
    """A number with so many digits behind the point; one too large for that in powers of ten."""
    if value is None:
        return NONE
    return f"{value:,.{digits}f}" if abs(value) < 1e6 else f"{value:.2e}"


def percent(value: float | None) -> str:
    """A share in percent."""
    return NONE if value is None else f"{value:.1%}"


def times(value: float | None) -> str:
    """A ratio."""
    return NONE if value is None else f"{number(value)}x"


def short(value: float) -> str:
    """A number for an axis: 0.25, 8,192, 20k, 1.5M."""
    if 1000 <= abs(value) < 10_000:
        return f"{value:,.0f}"
    unit, scale = next(((unit, scale) for unit, scale in _UNITS if abs(value) >= scale), ("", 1.0))
    return f"{value / scale:.3g}{unit}" if unit else f"{value:.4g}"


def duration(seconds: float) -> str:
    """A time: 42 s, 12 min, 3 h 20 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def ratio(one: float | None, other: float | None) -> float | None:
    """One number over another; None where there is not both."""
    return None if one is None or not other else one / other
