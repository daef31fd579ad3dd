"""Choice of implementations: the one seam between an operation and what computes it.

Every operation registers its implementations ("reference", "native", "gpu") here; `select` picks one for
a device, and `report` says what is picked and why, which is what `braid doctor` prints. The
choice is "auto" unless `BRAIDLM_OPS` or `using` says otherwise; "auto" takes the fastest implementation
that is present, and an implementation that is asked for by name but missing raises with the reason.
"""

import contextlib
import contextvars
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ..errors import UnavailableError
from ..system.choices import OPS

_PREFERRED = {"cpu": ("native", "reference"), "cuda": ("gpu", "reference")}


@dataclass(frozen=True)
class Implementation:
    """One implementation of an operation; `why_not` gives the reason it cannot run, or None."""

    function: Callable[..., Any]
    why_not: Callable[[], str | None]


_table: dict[str, dict[str, Implementation]] = {}
_choice: contextvars.ContextVar[str | None] = contextvars.ContextVar("braidlm_ops", default=None)


def register(
    op: str, name: str, function: Callable[..., Any], why_not: Callable[[], str | None] = lambda: None
) -> None:
    """Registers implementation `name` of operation `op`; `why_not` gives the reason that it cannot run, or None."""
    _table.setdefault(op, {})[name] = Implementation(function, why_not)


def choice() -> str:
    """Present choice of implementations, one of `OPS`."""
    asked = _choice.get() or os.environ.get("BRAIDLM_OPS", "auto")
    return checked(asked)


def checked(name: str) -> str:
    """`name` if it is one of `OPS`; `UnavailableError` else."""
    if name not in OPS:
        raise UnavailableError(f"ops is {name!r}, but must be one of {', '.join(OPS)}")
    return name


@contextlib.contextmanager
def using(name: str) -> Iterator[None]:
    """Context in which operations use implementation `name`; "auto" leaves an outer choice standing."""
    checked(name)
    if name == "auto":
        yield
        return
    token = _choice.set(name)
    try:
        yield
    finally:
        _choice.reset(token)


def why_not(op: str, name: str) -> str | None:
    """Reason that implementation `name` of `op` cannot run here, or None if it can."""
    known = _table[op].get(name)
    return f"{op} has no {name} implementation" if known is None else known.why_not()


def resolve(op: str, device: str) -> str:
    """Name of the implementation that `op` uses on `device` ("cpu", "cuda") under the present choice."""
    asked = choice()
    if asked != "auto":
        reason = why_not(op, asked)
        if reason is not None:
            raise UnavailableError(f"ops {asked!r} was asked for, but {reason}")
        return asked
    return next(name for name in _PREFERRED.get(device, ("reference",)) if why_not(op, name) is None)


def select(op: str, device: str) -> Callable[..., Any]:
    """Function that computes `op` on `device` under the present choice."""
    return _table[op][resolve(op, device)].function


def report(device: str) -> list[tuple[str, str, str]]:
    """Every operation, the implementation chosen on `device` ("none" if it cannot run), and why no faster one."""
    return [(op, *_explained(op, device)) for op in sorted(_table)]


def _explained(op: str, device: str) -> tuple[str, str]:
    try:
        chosen = resolve(op, device)
    except UnavailableError as error:
        return "none", str(error)
    better = _PREFERRED.get(device, ("reference",))
    reasons = [why_not(op, name) for name in better[: better.index(chosen)]] if chosen in better else []
    return chosen, "; ".join(reason for reason in reasons if reason) or f"chosen by {choice()}"
