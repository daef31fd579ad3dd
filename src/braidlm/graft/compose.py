"""Models put together of a donor's blocks and new mixers, over the very same weights."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from .. import layers
from ..layers.layer import Mixer as MixerLayer
from ..model.assign import assign
from ..model.footprint import parameter_dtypes, skeleton
from ..model.model import Model
from ..spec import Block, Mixer, ModelSpec, replace_attention
from ..train.initial import initialise
from .layout import Candidates
from .mixers import REPLACERS, Sample

# Of the embedding's deviation: learned vectors before every sequence begin as the mean token with that much noise.
_PREFIX_NOISE = 0.1


def mixer_of(model: Model, index: int) -> MixerLayer:
    """Mixer of a block."""
    mixer = model.blocks[index].mixer
    assert isinstance(mixer, MixerLayer)
    return mixer


def new_mixers(donor: Model, found: Candidates, samples: Mapping[int, Sample], seed: int) -> dict[int, MixerLayer]:
    """New mixers of all candidate blocks in float32, each with its initial values (stage 0 of a graft)."""
    made = {}
    for index, spec in found.mixers.items():
        made[index] = published_mixer(spec, donor.spec, seed + index)
        kind = found.options[index].kind
        if kind != "spec":
            REPLACERS[kind].initialise(made[index], mixer_of(donor, index), samples[index])
    return made


def published_mixer(spec: Mixer, model: ModelSpec, seed: int) -> MixerLayer:
    """Mixer in float32 with the published initial values of its kind."""
    alone = replace_attention(spec, lambda attention: replace(attention, kv_from=None))
    small = skeleton(replace(model, vocab=1, blocks=(Block(mixer=alone),), meta_tokens=0))
    initialise(small, seed)
    values = dict(mixer_of(small, 0).named_parameters())
    with torch.device("meta"):
        made = layers.build_mixer(spec, model)
    for name, _ in list(made.named_parameters()):
        assign(made, name, values[name].detach())
    return made


def first_prefix(donor: Model, count: int, seed: int) -> Tensor:
    """Learned vectors before every sequence, [count, D], in float32: the mean token, with noise to tell them apart."""
    generator = torch.Generator().manual_seed(seed)
    weight_VD = donor.embed.weight if isinstance(donor.embed.weight, Tensor) else donor.embed.weight.dequantize()
    mean_D, deviation_D = weight_VD.float().mean(0), weight_VD.float().std(0)
    noise_PD = torch.randn(count, len(mean_D), generator=generator)
    made_PD = mean_D + _PREFIX_NOISE * deviation_D * noise_PD
    return made_PD if donor.prefix is None else torch.cat([donor.prefix.detach().float(), made_PD])


def compose(donor: Model, mixers: Mapping[int, MixerLayer], spec: ModelSpec, prefix: Tensor | None = None) -> Model:
    """Model of `spec` with the donor's modules, but for the blocks of `mixers`, which get the mixer given.

    Nothing is copied: weights are those of the donor and of `mixers`. `prefix` takes the place of the donor's own.
    """
    model = skeleton(spec)
    for name in ("embed", "norm", "head"):
        setattr(model, name, getattr(donor, name))
    model.prefix = donor.prefix if prefix is None else nn.Parameter(prefix, requires_grad=False)
    model.compute_dtype = donor.compute_dtype
    for index, block in enumerate(model.blocks):
        for name, module in donor.blocks[index].named_children():
            if name != "mixer":
                setattr(block, name, module)
        block.mixer = mixers[index] if index in mixers else _with_spec(mixer_of(donor, index), spec, index)
    return model


def _with_spec(mixer: MixerLayer, spec: ModelSpec, index: int) -> MixerLayer:
    """The donor's mixer over the same weights, by the spec that it has now: a window may show more first tokens."""
    if mixer.spec == spec.blocks[index].mixer:
        return mixer
    with torch.device("meta"):
        made = layers.build_mixer(spec.blocks[index].mixer, spec)
    for name, weight in mixer.named_parameters():
        assign(made, name, weight.detach())
    return made


def whole(model: Model, dtype: torch.dtype) -> Model:
    """Copy of a composed model that shares no weight with another one, in the dtypes of a model of `dtype`."""
    made = skeleton(model.spec)
    dtypes = parameter_dtypes(made, dtype)
    for name, weight in model.named_parameters():
        assign(made, name, weight.detach().to(dtypes[name], copy=True))
    return made


def bank_of(mixers: Mapping[int, MixerLayer], donor: ModelSpec) -> Model:
    """Model of the given mixers alone, block after block and without anything around them, for training them."""
    specs = tuple(Block(mixer=mixer.spec) for mixer in mixers.values())
    bank = skeleton(replace(donor, vocab=1, tied=True, blocks=specs, meta_tokens=0))
    for name, weight in list(bank.named_parameters()):
        assign(bank, name, torch.zeros_like(weight, device="cpu"))
    for block, mixer in zip(bank.blocks, mixers.values(), strict=True):
        block.mixer = mixer
    return bank
