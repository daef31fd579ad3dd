"""Attention to the keys and values of an earlier block in the place of own ones (Brandon et al. 2024)."""

from dataclasses import replace
from typing import Any

from ...errors import SpecError
from ...spec import Attention
from ..options import MixerOptions
from . import window
from .replacer import Sample

INITIAL = "queries and output projection are the donor's; keys and values are the earlier block's"


def spec(donor: Attention, options: MixerOptions, width: int) -> Attention:
    """The donor's attention without keys and values of its own; the recipe's layout says whose it uses."""
    if options.kv_from is None:
        raise SpecError("no earlier block has keys and values to share")
    return replace(donor, kv_from=options.kv_from)


def initialise(new: Any, donor: Any, sample: Sample) -> None:
    """Copies the weights that are left."""
    window.initialise(new, donor, sample)
