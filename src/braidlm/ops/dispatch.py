"""The one seam between an operation and its implementations.

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

IMPLEMENTATIONS = ("reference", "native", "gpu")
CHOICES = (*IMPLEMENTATIONS, "auto")
_PREFERRED = {"cpu": ("native", "reference"), "cuda": ("gpu", "reference")}


@dataclass(frozen=True)
class Implementation:
    """One implementation of an operation; `why_not` gives the reason it cannot run, or None."""

    function: Callable[..., Any]
    why_not: Callable[[], str | None]


_table: dict[str, dict[str, Implementation]] = {}
_choice: contextvars.ContextVar[str | None] = contextvars.ContextVar("braidlm_ops", default=None)


def register(
    op: str, implementation: str, function: Callable[..., Any], why_not: Callable[[], str | None] = lambda: None
) -> None:
    """Adds the implementation `implementation` of operation `op`."""
    _table.setdefault(op, {})[implementation] = Implementation(function, why_not)


def choice() -> str:
    """What is asked for now: one of `CHOICES`."""
    asked = _choice.get() or os.environ.get("BRAIDLM_OPS", "auto")
    return checked(asked)


def checked(name: str) -> str:
    """`name` if it is a choice, else an error that lists them."""
    if name not in CHOICES:
        raise UnavailableError(f"ops is {name!r}, but must be one of {', '.join(CHOICES)}")
    return name


@contextlib.contextmanager
def using(name: str) -> Iterator[None]:
    """Within the block, operations come from implementation `name`; "auto" leaves an outer choice standing."""
    checked(name)
    if name == "auto":
        yield
        return
    token = _choice.set(name)
    try:
        yield
    finally:
        _choice.reset(token)


def why_not(op: str, implementation: str) -> str | None:
    """Why `implementation` of `op` cannot run here, or None if it can."""
    known = _table[op].get(implementation)
    return f"{op} has no {implementation} implementation" if known is None else known.why_not()


def resolve(op: str, device: str) -> str:
    """The name of the implementation that `op` uses on `device` ("cpu", "cuda") under the present choice."""
    asked = choice()
    if asked != "auto":
        reason = why_not(op, asked)
        if reason is not None:
            raise UnavailableError(f"ops {asked!r} was asked for, but {reason}")
        return asked
    return next(
        implementation
        for implementation in _PREFERRED.get(device, ("reference",))
        if why_not(op, implementation) is None
    )


def select(op: str, device: str) -> Callable[..., Any]:
    """The function that computes `op` on `device` under the present choice."""
    return _table[op][resolve(op, device)].function


def report(device: str) -> list[tuple[str, str, str]]:
    """For every operation: its name, the implementation chosen on `device` ("none" if it cannot run), and why no faster one."""
    return [(op, *_explained(op, device)) for op in sorted(_table)]


def _explained(op: str, device: str) -> tuple[str, str]:
    try:
        implementation = resolve(op, device)
    except UnavailableError as error:
        return "none", str(error)
    better = _PREFERRED.get(device, ("reference",))
    reasons = [why_not(op, name) for name in better[: better.index(implementation)]] if implementation in better else []
    return implementation, "; ".join(reason for reason in reasons if reason) or f"chosen by {choice()}"
