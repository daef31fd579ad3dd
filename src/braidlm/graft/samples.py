"""Samples of a donor's blocks on some text, from which new mixers take initial values."""

from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor

from ..model.hooks import removed_after
from ..model.model import Model
from ..ops import Segments
from .compose import mixer_of
from .mixers import Sample


@torch.no_grad()
def take_samples(donor: Model, ids_T: Tensor, segments: Segments, blocks: Collection[int]) -> dict[int, Sample]:
    """Normed inputs and attended heads of the mixers of `blocks`, which are attention, in one pass over the text."""
    inputs: dict[int, Tensor] = {}
    attended: dict[int, Tensor] = {}

    def keep(place: dict[int, Tensor], index: int) -> Callable[..., None]:
        def hook(_: Any, arguments: tuple[Any, ...]) -> None:
            place[index] = arguments[0].float()

        return hook

    hooks = []
    for index in blocks:
        mixer: Any = mixer_of(donor, index)
        hooks.append(mixer.register_forward_pre_hook(keep(inputs, index)))
        hooks.append(mixer.o_proj.register_forward_pre_hook(keep(attended, index)))
    with removed_after(hooks):
        donor.hidden(ids_T, segments, donor.training_state(len(segments.lengths)))
    return {index: Sample(inputs[index], attended[index], segments) for index in blocks}
