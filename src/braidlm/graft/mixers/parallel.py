"""Parallel heads in the place of attention: the donor's own in a window, and a recurrence beside it that is silent.

While the gains of the recurrence's norm are zero, the block computes what its attention alone does. Training lets the
recurrence speak for what the window no longer shows.
"""

from typing import Any

import torch

from ...spec import Attention, Parallel
from ..options import MixerOptions
from . import mamba, mamba2, window
from .replacer import Sample, copy_output

INITIAL = "the donor's attention in a window, unchanged; beside it a silent recurrence that begins as it would alone"

_SSM = {"mamba2": mamba2, "mamba": mamba}


def spec(donor: Attention, options: MixerOptions, width: int) -> Parallel:
    """The donor's attention in a window, and a recurrence of as many channels."""
    ssm = _SSM[options.ssm or "mamba2"].spec(donor, options, width)
    return Parallel(attention=window.spec(donor, options, width), ssm=ssm, combine="sum")


@torch.no_grad()
def initialise(new: Any, donor: Any, sample: Sample) -> None:
    """Fills both branches; the gains of the recurrence's norm are zero."""
    window.initialise(new.attention, donor, sample)
    copy_output(new.out_proj, donor)
    _SSM["mamba" if hasattr(new.ssm, "x_proj") else "mamba2"].initialise(new.ssm, donor, sample)
    new.ssm_norm.weight.zero_()
