"""Models that a calibration measures: a few equal blocks of one kind, in sizes of which one matters at a time."""

from collections.abc import Callable

import torch

from ..model import footprint
from ..model.assign import assign
from ..model.initialisation import randomise
from ..model.model import Model
from ..ops.linear.quantized import WEIGHT_FORMATS, empty_quantized
from ..quant.policy import policy_of
from ..spec import Attention, Block, FeedForward, Hyena, Mamba, Mamba2, Mixer, Mlp, ModelSpec, Moe, Norm

_HEAD_DIM = 64

# A mixer of each kind, but those that are made of others, by its inner channels and its states a channel.
MIXERS: dict[str, Callable[[int, int], Mixer]] = {
    "Attention": lambda inner, _: Attention(
        heads=inner // _HEAD_DIM, kv_heads=max(1, inner // (4 * _HEAD_DIM)), head_dim=_HEAD_DIM
    ),
    "Mamba": lambda inner, d_state: Mamba(inner=inner, d_state=d_state, dt_rank=max(1, inner // 32)),
    "Mamba2": lambda inner, d_state: Mamba2(heads=inner // _HEAD_DIM, head_dim=_HEAD_DIM, d_state=d_state),
    "Hyena": lambda inner, d_state: Hyena(d_state=d_state, filters=inner),
}
# States a channel, as published models have them and four times or more of that.
D_STATES = {"Mamba": (16, 64), "Mamba2": (64, 256), "Hyena": (2, 32)}

# A feed-forward layer of each kind, by the model's width; the experts' matrices are as small as the rest.
FEED_FORWARDS: dict[str, Callable[[int], FeedForward]] = {
    "Mlp": lambda width: Mlp(hidden=width),
    "Moe": lambda width: Moe(experts=8, top_k=2, hidden=width, shared=Mlp(hidden=width)),
}


def probe_model(block: Block, blocks: int, width: int) -> Model:
    """Model of `blocks` equal blocks in bfloat16 with random weights."""
    model = footprint.skeleton(_spec(block, blocks, width))
    randomise(model, 0, torch.bfloat16, "cpu")
    return model.eval()


def format_model(weight_format: str, blocks: int, width: int, hidden: int) -> Model:
    """Model whose weights are nearly all those of gated feed-forward layers, in one format and all the same number."""
    block = Block(mixer=MIXERS["Attention"](_HEAD_DIM, 0), ffn=Mlp(hidden=hidden))
    model = footprint.skeleton(_spec(block, blocks, width))
    dtype = torch.float32 if weight_format == "float32" else torch.bfloat16
    randomise(model, 0, dtype, "cpu", lambda name, shape, generator: torch.full(shape, 1 / width))
    if weight_format in WEIGHT_FORMATS:
        for name, kind in policy_of(model, weight_format).items():
            made = empty_quantized(model.get_parameter(name).shape, kind, dtype=dtype)
            for part in made.buffers():
                part.fill_(1)
            assign(model, name, made)
    return model.eval()


def _spec(block: Block, blocks: int, width: int) -> ModelSpec:
    return ModelSpec(vocab=32, width=width, blocks=(block,) * blocks, norm=Norm(eps=1e-5), tied=True)
