"""Parts of descriptions for tests."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from braidlm.errors import SpecError
from braidlm.spec import (
    Attention,
    Block,
    DynamicNtkScaling,
    FactorScaling,
    Hyena,
    LinearScaling,
    Llama3Scaling,
    Mamba,
    Mamba2,
    Mixer,
    ModelSpec,
    Norm,
    NtkScaling,
    Parallel,
    Rope,
    YarnScaling,
)

NAN, INF = math.nan, math.inf

ATTENTION: dict[str, Any] = {"heads": 4, "kv_heads": 2, "head_dim": 8}
MAMBA: dict[str, Any] = {"inner": 32, "d_state": 4, "dt_rank": 2}
MAMBA2: dict[str, Any] = {"heads": 4, "head_dim": 8, "d_state": 5}
HYENA: dict[str, Any] = {"d_state": 2, "filters": 8}
LLAMA3: dict[str, Any] = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_positions": 64,
}
YARN: dict[str, Any] = {"factor": 4.0, "original_positions": 16, "attention_factor": 1.1, "beta_fast": 4.0}

MIXERS: dict[str, Mixer] = {
    "attention": Attention(**ATTENTION),
    "attention with everything": Attention(
        **ATTENTION,
        value_dim=6,
        rope=Rope(base=5e5, dims=6, scaling=FactorScaling(factors=(1.0, 2.5, 8.0))),
        window=9,
        sink_tokens=3,
        scale=0.3,
        qkv_bias=True,
        out_bias=True,
    ),
    "attention, ntk": Attention(**ATTENTION, rope=Rope(base=1e4, dims=4, scaling=NtkScaling(factor=3.5))),
    "attention, linear": Attention(**ATTENTION, rope=Rope(base=1e4, dims=8, scaling=LinearScaling(factor=2))),
    "attention, llama3": Attention(**ATTENTION, rope=Rope(base=1e4, dims=8, scaling=Llama3Scaling(**LLAMA3))),
    "attention, yarn": Attention(**ATTENTION, rope=Rope(base=1e4, dims=6, scaling=YarnScaling(**YARN))),
    "attention, dynamic": Attention(
        **ATTENTION, rope=Rope(base=1e4, dims=8, scaling=DynamicNtkScaling(factor=3.0, original_positions=11))
    ),
    "mamba": Mamba(**MAMBA),
    "mamba, norms without weights": Mamba(**MAMBA, inner_norms=True, inner_norms_learned=False, inner_eps=1e-3),
    "mamba with everything": Mamba(**MAMBA, conv=2, conv_bias=False, proj_bias=True, inner_norms=True),
    "mamba2": Mamba2(**MAMBA2),
    "mamba2 with everything": Mamba2(
        **MAMBA2, groups=2, conv=3, conv_bias=False, proj_bias=True, dt_min=0.01, dt_max=0.5
    ),
    "hyena": Hyena(**HYENA),
    "hyena with everything": Hyena(**HYENA, conv=2, heads=4, conv_bias=False),
    "parallel, mamba": Parallel(attention=Attention(**ATTENTION), ssm=Mamba(**MAMBA)),
    "parallel, mamba2": Parallel(attention=Attention(**ATTENTION, window=5), ssm=Mamba2(**MAMBA2)),
    "parallel, summed": Parallel(attention=Attention(**ATTENTION), ssm=Mamba(**MAMBA), combine="sum"),
}


def model(*mixers: Mixer, **more: Any) -> ModelSpec:
    """A model of width 32 with these mixers."""
    blocks = tuple(Block(mixer=mixer) for mixer in mixers)
    return ModelSpec(**{"vocab": 50, "width": 32, "blocks": blocks, "norm": Norm(eps=1e-5)} | more)


def own() -> Attention:
    return Attention(**ATTENTION, window=8, sink_tokens=2)


def sharing(owner: Any, **more: Any) -> Attention:
    return replace(own(), kv_from=owner, **more)


def refusal(make: Callable[[], Any]) -> str:
    """The one sentence in which `make` is refused."""
    with pytest.raises(SpecError) as caught:
        make()
    assert "\n" not in str(caught.value)
    return str(caught.value)
