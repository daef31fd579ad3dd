"""Attention to the last tokens in the place of attention to all: every weight is the donor's."""

from dataclasses import replace
from typing import Any

import torch

from ...spec import Attention
from ..options import MixerOptions
from .replacer import Sample

INITIAL = "every weight is the donor's"


def spec(donor: Attention, options: MixerOptions, width: int) -> Attention:
    """The donor's attention with a window; one of its own that is smaller stays."""
    window = min(filter(None, (options.window, donor.window)))
    return replace(donor, window=window, sink_tokens=max(options.sink_tokens, donor.sink_tokens))


@torch.no_grad()
def initialise(new: Any, donor: Any, sample: Sample) -> None:
    """Copies all weights that both have."""
    for name, weight in donor.named_parameters():
        if name in dict(new.named_parameters()):
            new.get_parameter(name).copy_(weight)
