"""Kinds of mixers that a graft puts in the place of a donor's attention: one file each.

Each says what spec the new mixer has and fills its parameters from the donor's weights.
"""

from . import hyena, mamba, mamba2, parallel, shared, window
from .replacer import Replacer, Sample

# The table of kinds, by the name that a recipe uses.
REPLACERS: dict[str, Replacer] = {
    "mamba2": mamba2,
    "mamba": mamba,
    "hyena": hyena,
    "window": window,
    "parallel": parallel,
    "shared": shared,
}

__all__ = ["REPLACERS", "Replacer", "Sample"]
