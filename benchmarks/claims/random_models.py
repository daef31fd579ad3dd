"""Models of random weights at full shape, quantized, on disk once and memory-mapped from there; and small ones.

Quantized numbers are drawn as they are stored, so that a model never exists unquantized: nine billion weights take a
minute and the memory of the result. Their spread is about that of `initialisation.randomise`.
"""

import json
import math
from dataclasses import replace
from pathlib import Path

import torch

import braidlm
from braidlm import LanguageModel
from braidlm.checkpoints.saving import Origin
from braidlm.model import footprint
from braidlm.model.assign import assign
from braidlm.model.initialisation import randomise
from braidlm.ops.linear.quantized import QuantizedWeight, empty_quantized
from braidlm.quant.policy import policy_of
from braidlm.spec import Attention, Block, Mamba, Mamba2, Mixer, Mlp, ModelSpec, Parallel
from braidlm.system.digest import digest

WEIGHTS = ("int4", "int8", "bf16")
# Standard deviation of a number that is stored with all its values equally likely.
_DEVIATION = {"int8": 73.9, "int4": 4.6}


def weight_bytes(spec: ModelSpec, weights: str) -> int:
    """Bytes of a model's weights."""
    kinds = {} if weights == "bf16" else policy_of(footprint.skeleton(spec), weights)
    return footprint.weight_bytes(spec, torch.bfloat16, kinds)


def random_model(name: str, spec: ModelSpec, weights: str, place: Path) -> LanguageModel:
    """Loads a model of random weights, memory-mapped, from `place`; it is written there before, if it is not there.

    A directory's name has a digest of the spec, so that another shape of the same name is another model.
    """
    shape = digest(json.dumps(spec.to_json(), sort_keys=True), ())[:12]
    directory = place / f"{name}-{weights}-{shape}"
    if not directory.exists():
        place.mkdir(parents=True, exist_ok=True)
        _made(spec, weights).save(directory, "braidlm")
    return braidlm.load(directory, progress=False)


def _made(spec: ModelSpec, weights: str) -> LanguageModel:
    network = footprint.skeleton(spec)
    if weights != "bf16":
        generator = torch.Generator().manual_seed(0)
        for name, kind in policy_of(network, weights).items():
            assign(network, name, _random_quantized(network.get_parameter(name).shape, kind, generator))
    randomise(network, 0, torch.bfloat16, "cpu")  # what is not quantized
    return LanguageModel(network.eval(), None, Origin())


def _random_quantized(shape: torch.Size, kind: str, generator: torch.Generator) -> QuantizedWeight:
    made = empty_quantized(shape, kind)
    if kind == "int8":
        made.data.random_(-127, 127, generator=generator)
    else:
        made.data.random_(generator=generator)  # all bits
    made.scale.fill_(1 / (_DEVIATION[kind] * math.sqrt(shape[-1])))
    return made


def small(spec: ModelSpec) -> ModelSpec:
    """A model of the same layers, each small: of width 64, to see that a command works."""
    blocks = tuple(Block(mixer=_small_mixer(block.mixer), ffn=block.ffn and Mlp(hidden=64)) for block in spec.blocks)
    return replace(spec, vocab=256, width=64, blocks=blocks, meta_tokens=min(spec.meta_tokens, 4), max_positions=None)


def _small_mixer(mixer: Mixer) -> Mixer:
    match mixer:
        case Attention():
            wide = 32 if mixer.value_dim else None
            window = mixer.window and 16
            rope = mixer.rope and replace(mixer.rope, dims=16)
            sinks = min(mixer.sink_tokens, 4)
            return replace(
                mixer, heads=4, kv_heads=2, head_dim=16, value_dim=wide, window=window, rope=rope, sink_tokens=sinks
            )
        case Mamba():
            return replace(mixer, inner=128, d_state=16, dt_rank=4)
        case Mamba2():
            return replace(mixer, heads=4, head_dim=32, d_state=16, groups=1)
        case Parallel():
            return Parallel(attention=_attention(mixer), ssm=_scan(mixer), combine=mixer.combine)
        case _:
            return mixer


def _attention(mixer: Parallel) -> Attention:
    made = _small_mixer(mixer.attention)
    assert isinstance(made, Attention)
    return made


def _scan(mixer: Parallel) -> Mamba | Mamba2:
    made = _small_mixer(mixer.ssm)
    assert isinstance(made, Mamba | Mamba2)
    return made
