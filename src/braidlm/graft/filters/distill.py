"""Distillation of filters into modes: the order that they need, or a given one, and what it leaves out.

Legend: F = filters, L = positions, M = modes, K = Hankel singular values.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from ...errors import InputError
from ...system.progress import ProgressFunction
from ...train.modal import Modes, Spectrum, fit, spectrum

# Modes of a filter, at most, where the order is chosen.
MOST_AUTO = 64


class Settings(NamedTuple):
    """Settings of a distillation.

    order: modes of a filter; None for the fewest that leave at most the part `tolerance` of every filter's norm.
    steps: of refinement, at most. real: poles are real, as symmetric systems have them (SpectraLDS 2505.17868).
    """

    order: int | None
    tolerance: float
    steps: int
    real: bool


class Distilled(NamedTuple):
    """Filters of a layer as modes: Hankel singular values of each filter [F, K], the modes, positions of the fit."""

    values_FK: Tensor
    modes: Modes
    length: int


def distill(filters: Mapping[str, Tensor], settings: Settings, progress: ProgressFunction) -> dict[str, Distilled]:
    """Modes of the filters of each layer, [F, L] each; `InputError` for what has no modes of this order."""
    if not filters:
        raise InputError("there are no filters")
    for name, filters_FL in filters.items():
        _check(name, filters_FL, settings)
    found = {}
    for number, (name, filters_FL) in enumerate(filters.items()):
        progress(number, len(filters))
        found[name] = _distilled(name, filters_FL, settings)
    progress(len(filters), len(filters))
    return found


def most_modes(length: int, *, real: bool) -> int:
    """Modes that filters of a length can determine: as many real numbers as half of the taps, for poles alone."""
    return (length - 2) // (2 if real else 4)


def _check(name: str, filters_FL: Tensor, settings: Settings) -> None:
    if not filters_FL.numel():
        raise InputError(f"{name} is empty: its shape is {list(filters_FL.shape)}, but filters are [channels, length]")
    bad = (~filters_FL.isfinite()).any(1).nonzero()[:, 0]
    if len(bad):
        raise InputError(
            f"{name} holds numbers that are not finite in {len(bad)} of {len(filters_FL)} filters, the first of them "
            f"number {int(bad[0])}; filters are finite"
        )
    most, asked = most_modes(filters_FL.shape[1], real=settings.real), settings.order or 1
    if asked > most:
        raise InputError(
            f"order is {asked}, but {name} has filters of {filters_FL.shape[1]} positions, which determine at most "
            f"{max(most, 0)} modes"
        )


def _distilled(name: str, filters_FL: Tensor, settings: Settings) -> Distilled:
    length = filters_FL.shape[1]
    most = settings.order or min(MOST_AUTO, most_modes(length, real=settings.real))
    found = spectrum(filters_FL, (1 if settings.real else 2) * most + 1)
    if settings.order is not None:
        return Distilled(found.values_FK, _fit(filters_FL, settings.order, settings, found), length)
    return Distilled(found.values_FK, _fewest(name, filters_FL, most, settings, found), length)


def _fit(filters_FL: Tensor, order: int, settings: Settings, found: Spectrum) -> Modes:
    return fit(filters_FL, order, steps=settings.steps, real=settings.real, found=found)


def _fewest(name: str, filters_FL: Tensor, most: int, settings: Settings, found: Spectrum) -> Modes:
    """The fewest modes within the tolerance: doubled from what the singular values tell, then halved in between."""
    order, too_few, enough = min(most, _told(filters_FL, settings, found)), 0, None
    while enough is None:
        modes = _fit(filters_FL, order, settings, found)
        worst = float(modes.relative_F.max())
        if worst <= settings.tolerance:
            enough = modes
        elif order == most:
            raise InputError(
                f"{most} modes leave {worst:.2g} of a filter of {name}, more than the tolerance {settings.tolerance:g}"
                "; give an order, or a larger tolerance"
            )
        else:
            too_few, order = order, min(most, 2 * order)
    while enough.poles_FM.shape[1] - too_few > 1:
        order = (enough.poles_FM.shape[1] + too_few) // 2
        modes = _fit(filters_FL, order, settings, found)
        if float(modes.relative_F.max()) <= settings.tolerance:
            enough = modes
        else:
            too_few = order
    return enough


def _told(filters_FL: Tensor, settings: Settings, found: Spectrum) -> int:
    """Modes beyond which no singular value of a filter is above the tolerance: enough for most filters."""
    states_F = (found.values_FK > settings.tolerance * found.values_FK[:, :1]).sum(1)
    states = int(torch.quantile(states_F.double(), 0.5))
    return max(1, states if settings.real else (states + 1) // 2)
