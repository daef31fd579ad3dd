"""Small random descriptions of every family, odd sizes included, for tests that need many of them."""

import random
from collections.abc import Callable
from dataclasses import replace

from braidlm.spec import (
    Attention,
    Block,
    DynamicNtkScaling,
    Hyena,
    LinearScaling,
    Llama3Scaling,
    Mamba,
    Mamba2,
    Mlp,
    ModelSpec,
    Moe,
    Norm,
    NtkScaling,
    Parallel,
    Rope,
    RopeScaling,
    YarnScaling,
)


def _attention(rng: random.Random, width: int, **more: object) -> Attention:
    kv_heads = rng.choice([1, 2])
    heads = kv_heads * rng.choice([1, 2, 4])
    head_dim = width // heads
    return Attention(heads=heads, kv_heads=kv_heads, head_dim=head_dim, **more)  # type: ignore[arg-type]


def _mamba2(rng: random.Random, width: int) -> Mamba2:
    head_dim = rng.choice([8, 16])
    heads = 2 * width // head_dim
    groups = rng.choice([g for g in (1, 2, 4) if heads % g == 0])
    return Mamba2(
        heads=heads, head_dim=head_dim, d_state=rng.choice([5, 16, 24]), groups=groups, conv=rng.choice([2, 4])
    )


def _scaling(rng: random.Random) -> RopeScaling | None:
    llama3 = Llama3Scaling(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_positions=64)
    yarn = YarnScaling(factor=4.0, original_positions=512, attention_factor=1.2, beta_fast=16.0)
    dynamic = DynamicNtkScaling(factor=2.0, original_positions=1024)  # 2,048 tokens in all
    return rng.choice([None, LinearScaling(factor=2.5), llama3, yarn, dynamic])


def _model(rng: random.Random, width: int, blocks: list[Block], **more: object) -> ModelSpec:
    vocab = rng.choice([97, 128, 203])
    norm = Norm(eps=rng.choice([1e-5, 1e-6]))
    return ModelSpec(vocab=vocab, width=width, blocks=tuple(blocks), norm=norm, **more)  # type: ignore[arg-type]


def mamba(rng: random.Random) -> ModelSpec:
    """Mamba-1."""
    width = rng.choice([24, 32, 40])
    mixer = Mamba(
        inner=rng.choice([1, 2]) * width,
        d_state=rng.choice([4, 7, 16]),
        dt_rank=rng.choice([1, 3]),
        conv=rng.choice([2, 4]),
        conv_bias=rng.random() < 0.7,
        proj_bias=rng.random() < 0.3,
    )
    return _model(rng, width, [Block(mixer=mixer)] * 2, tied=rng.random() < 0.5)


def falcon_mamba(rng: random.Random) -> ModelSpec:
    """Mamba-1 with norms of dt, B and C that have no weights."""
    spec = mamba(rng)
    mixer = spec.blocks[0].mixer
    assert isinstance(mixer, Mamba)
    mixer = replace(mixer, inner_norms=True, inner_norms_learned=False, inner_eps=rng.choice([1e-6, 1e-2]))
    return replace(spec, blocks=(Block(mixer=mixer),) * 2)


def mamba2(rng: random.Random) -> ModelSpec:
    """Mamba-2, sometimes with limits on the time step."""
    width = rng.choice([32, 48])
    mixer = replace(_mamba2(rng, width), conv_bias=rng.random() < 0.7, proj_bias=rng.random() < 0.3)
    if rng.random() < 0.4:
        mixer = replace(mixer, dt_min=0.01, dt_max=0.08)
    return _model(rng, width, [Block(mixer=mixer)] * 2, tied=rng.random() < 0.5)


def bamba(rng: random.Random) -> ModelSpec:
    """Mamba-2 and attention that rotates half of each head."""
    width = rng.choice([32, 64])
    attention = _attention(rng, width)
    attention = replace(attention, rope=Rope(base=10000.0, dims=attention.head_dim // 2))
    mamba, mlp = _mamba2(rng, width), Mlp(hidden=rng.choice([40, 56]))
    blocks = [Block(mixer=attention if i == 1 else mamba, ffn=mlp) for i in range(3)]
    return _model(rng, width, blocks, tied=rng.random() < 0.5, max_positions=4096)


def granitemoehybrid(rng: random.Random) -> ModelSpec:
    """With and without experts, with and without rotary positions."""
    width = rng.choice([32, 64])
    attention = _attention(rng, width, scale=rng.choice([0.11, 0.25]))
    if rng.random() < 0.3:
        attention = replace(attention, rope=Rope(base=10000.0, dims=attention.head_dim))
    shared = Mlp(hidden=rng.choice([24, 40]))
    experts = rng.choice([0, 3, 6])
    ffn = Moe(experts=experts, top_k=rng.choice([1, 2, 3]), hidden=16, shared=shared) if experts else shared
    mamba = _mamba2(rng, width)
    if experts and rng.random() < 0.2:  # experts alone
        ffn = Moe(experts=experts, top_k=1, hidden=16)
    blocks = [Block(mixer=attention if i == 1 else mamba, ffn=ffn, residual_scale=0.22) for i in range(3)]
    scales = {"embed_scale": 12.0, "logit_scale": 1 / rng.choice([3.0, 6.0])}
    return _model(rng, width, blocks, tied=rng.random() < 0.5, max_positions=4096, **scales)


def granite(rng: random.Random) -> ModelSpec:
    """Dense: a Llama with four multipliers."""
    spec = llama(rng)
    mixer = spec.blocks[0].mixer
    assert isinstance(mixer, Attention)
    block = replace(spec.blocks[0], mixer=replace(mixer, scale=rng.choice([0.11, 0.25])), residual_scale=0.22)
    return replace(spec, blocks=(block,) * 3, embed_scale=12.0, logit_scale=1 / rng.choice([3.0, 8.0]))


def llama(rng: random.Random) -> ModelSpec:
    """Every rotary scaling, with and without biases, head size apart from the width."""
    width, bias = rng.choice([32, 48]), rng.random() < 0.3
    attention = _attention(rng, width, qkv_bias=bias, out_bias=bias)
    head_dim = rng.choice([8, 10, 16])
    attention = replace(attention, head_dim=head_dim, rope=Rope(base=500000.0, dims=head_dim, scaling=_scaling(rng)))
    block = Block(mixer=attention, ffn=Mlp(hidden=rng.choice([40, 56]), bias=rng.random() < 0.3))
    return _model(rng, width, [block] * 3, tied=rng.random() < 0.5, max_positions=2048)


def mistral(rng: random.Random) -> ModelSpec:
    """Llama with a window, shorter than the prompts of the tests."""
    spec = llama(rng)
    window = rng.choice([1, 5, 33])
    mixer = spec.blocks[0].mixer
    assert isinstance(mixer, Attention)
    mixer = replace(mixer, window=window, qkv_bias=False, out_bias=False)
    mixer = replace(mixer, rope=Rope(base=10000.0, dims=mixer.head_dim))
    block = replace(spec.blocks[0], mixer=mixer, ffn=Mlp(hidden=40))
    return replace(spec, blocks=(block,) * 3)


def hymba(rng: random.Random) -> ModelSpec:
    """Parallel heads, learned prefix, window, keys and values shared by neighbours."""
    width, heads = 32, rng.choice([2, 4])
    inner, meta = 2 * width, rng.choice([0, 3, 130])
    ssm = Mamba(inner=inner, d_state=4, dt_rank=2, inner_norms=rng.random() < 0.8)
    rope = Rope(base=10000.0, dims=width // heads, scaling=NtkScaling(factor=rng.choice([3.0, 7.0])))
    full = Attention(
        heads=heads, kv_heads=rng.choice([1, 2]), head_dim=width // heads, value_dim=inner // heads, rope=rope
    )
    local = replace(full, window=rng.choice([6, 20]), sink_tokens=meta)
    shared = replace(local, kv_from=1)
    mixers = [Parallel(attention=attention, ssm=ssm) for attention in (full, local, shared, shared, full)]
    blocks = [Block(mixer=mixer, ffn=Mlp(hidden=40)) for mixer in mixers]
    return _model(rng, width, blocks, tied=True, meta_tokens=meta, max_positions=1024)


def stripedhyena(rng: random.Random) -> ModelSpec:
    """Hyena and attention in turn, grouped filters, both channel orders."""
    width, heads = 32, rng.choice([2, 4])
    hyena = Hyena(
        d_state=rng.choice([1, 2, 3]),
        filters=width // rng.choice([1, 4]),
        conv=rng.choice([2, 3]),
        heads=rng.choice([None, heads]),
    )
    rope = Rope(base=10000.0, dims=width // heads, scaling=rng.choice([None, LinearScaling(factor=4.0)]))
    attention = Attention(heads=heads, kv_heads=heads // 2, head_dim=width // heads, rope=rope)
    mlp = Mlp(hidden=40, activation=rng.choice(["silu", "gelu"]))
    blocks = [Block(mixer=attention if i % 2 else hyena, ffn=mlp) for i in range(3)]
    norm = Norm(eps=1e-5, eps_outside_root=True)
    return replace(_model(rng, width, blocks, max_positions=2048), norm=norm)


TINY: dict[str, Callable[[random.Random], ModelSpec]] = {
    function.__name__: function
    for function in (mamba, falcon_mamba, mamba2, stripedhyena, hymba, bamba, granite, granitemoehybrid, llama, mistral)
}


def tiny(family: str, seed: int) -> ModelSpec:
    """The `seed`-th small description of a family."""
    return TINY[family](random.Random(f"{family} {seed}"))
