"""Protocol of the kinds of mixers in `mixers`, and what they share."""

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from ...ops import Segments
from ...spec import Attention, Mixer
from ..options import MixerOptions


class Sample(NamedTuple):
    """What a donor's block does on some text, from which initial values are measured.

    inputs_TD: normed inputs of its mixer. attended_TE: outputs of its attention's heads before the output projection.
    segments: the documents of the text.
    """

    inputs_TD: Tensor
    attended_TE: Tensor
    segments: Segments


class Replacer(Protocol):
    """A kind of mixer: a module with these two functions and a sentence about its initial values."""

    INITIAL: str

    def spec(self, donor: Attention, options: MixerOptions, width: int) -> Mixer:
        """Spec of the mixer that takes the place of `donor`, in a model of `width`; `SpecError` if there is none."""
        ...

    def initialise(self, new: Any, donor: Any, sample: Sample) -> None:
        """Fills parameters of `new`, which have random values, from the weights of an attention layer, `donor`."""
        ...


def heads_of(weight: Tensor, donor: Attention, size: int) -> Tensor:
    """Rows of a key or value projection for every query head: [kv_heads * size, D] -> [heads, size, D]."""
    return weight.unflatten(0, (donor.kv_heads, size)).repeat_interleave(donor.heads // donor.kv_heads, 0)


def fitted(rows_HKD: Tensor, size: int) -> Tensor:
    """The first `size` rows of every head, or all of them followed by zeros: [H, K, D] -> [H * size, D]."""
    cut = rows_HKD[:, :size]
    return torch.nn.functional.pad(cut, (0, 0, 0, size - cut.shape[1])).flatten(0, 1)


def plain_weight(linear: Any) -> Tensor:
    """Weight of a linear layer in float32; quantized ones are dequantized."""
    weight = linear.weight
    return (weight if isinstance(weight, Tensor) else weight.dequantize()).detach().float()


def copy_output(new: Any, donor: Any) -> None:
    """Copies the output projection; without one of its own, a bias is zero."""
    new.weight.copy_(plain_weight(donor.o_proj))
    if new.bias is not None:
        new.bias.zero_()
        if donor.o_proj.bias is not None:
            new.bias.copy_(donor.o_proj.bias)


def rms_by_channel(x_TE: Tensor) -> Tensor:
    """Root of each channel's mean square: [T, E] -> [E]."""
    return x_TE.float().square().mean(0).sqrt()


def identity_taps(conv: Any) -> None:
    """Sets a short convolution to the identity."""
    conv.weight.zero_()
    conv.weight[..., -1] = 1.0
    if conv.bias is not None:
        conv.bias.zero_()
