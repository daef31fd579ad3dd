"""Mamba-1 in the place of attention: x begins as the donor's values; the selection as published."""

import math
from typing import Any

import torch

from ...spec import Attention, Mamba
from ..options import CONV, MixerOptions
from .mamba2 import SILU_IS_ONE
from .replacer import Sample, copy_output, heads_of, identity_taps, plain_weight

INITIAL = (
    "x from the donor's values; output projection copied; short convolution the identity; gate 1; no skip; B, C, time "
    "steps and decays as published for Mamba (its B and C depend on x, not on the block's input, so that queries and "
    "keys have no place)"
)


def spec(donor: Attention, options: MixerOptions, width: int) -> Mamba:
    """Spec with as many channels as the donor's heads have together."""
    return Mamba(
        inner=donor.inner,
        d_state=options.d_state or 16,
        dt_rank=math.ceil(width / 16),
        conv=options.conv or CONV,
        proj_bias=True,
    )


@torch.no_grad()
def initialise(new: Any, donor: Any, sample: Sample) -> None:
    """Fills what the donor determines; the rest keeps its published initial values."""
    inner, model = new.spec.inner, donor.spec
    new.in_proj.weight[:inner] = heads_of(plain_weight(donor.v_proj), model, model.v_dim).flatten(0, 1)
    new.in_proj.weight[inner:] = 0
    new.in_proj.bias[:inner] = 0
    new.in_proj.bias[inner:] = SILU_IS_ONE
    if donor.v_proj.bias is not None:
        new.in_proj.bias[:inner] = heads_of(donor.v_proj.bias[:, None], model, model.v_dim).flatten()
    identity_taps(new.conv)
    new.d.zero_()
    if hasattr(new, "out_proj"):
        copy_output(new.out_proj, donor)
