"""Descriptions of models: what is refused and how, sizes of states."""

from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields, is_dataclass, replace
from typing import Any

import pytest

from braidlm.spec import (
    Attention,
    Block,
    FactorScaling,
    Hyena,
    LinearScaling,
    Llama3Scaling,
    Mamba,
    Mamba2,
    Mlp,
    Moe,
    Norm,
    NtkScaling,
    Parallel,
    Rope,
    mixer_kinds,
)
from braidlm.spec.state import PAGE_TOKENS
from tests.families.tiny import tiny
from tests.spec.specs import ATTENTION, HYENA, INF, LLAMA3, MAMBA, MAMBA2, MIXERS, NAN, model, own, refusal, sharing

SIZES: list[tuple[type, dict[str, Any], tuple[str, ...]]] = [
    (Attention, ATTENTION, ("heads", "kv_heads", "head_dim", "value_dim", "window")),
    (Mamba, MAMBA, ("inner", "d_state", "dt_rank", "conv")),
    (Mamba2, MAMBA2, ("heads", "head_dim", "d_state", "groups", "conv")),
    (Hyena, HYENA, ("d_state", "filters", "conv", "heads")),
    (Mlp, {}, ("hidden",)),
    (Moe, {"experts": 4, "top_k": 1, "hidden": 8}, ("experts", "top_k", "hidden")),
    (Rope, {"base": 1e4}, ("dims",)),
    (Llama3Scaling, LLAMA3, ("original_positions",)),
]


@pytest.mark.parametrize(
    ("kind", "rest", "name"), [(kind, rest, name) for kind, rest, names in SIZES for name in names]
)
@pytest.mark.parametrize("value", [0, -3, 2.0, True, "8", NAN])
def test_sizes_are_positive_whole_numbers(kind: type, rest: dict[str, Any], name: str, value: Any) -> None:
    """Oracle: field and value in the message; a whole float and a truth value are not sizes either."""
    message = refusal(lambda: kind(**rest | {name: value}))
    assert f"{kind.__name__}.{name} is {value!r}" in message
    assert "a positive whole number" in message


REALS: list[tuple[type, dict[str, Any], tuple[str, ...]]] = [
    (Norm, {}, ("eps",)),
    (LinearScaling, {}, ("factor",)),
    (NtkScaling, {}, ("factor",)),
    (Llama3Scaling, LLAMA3, ("factor", "low_freq_factor", "high_freq_factor")),
    (Rope, {"dims": 4}, ("base",)),
    (Attention, ATTENTION, ("scale",)),
    (Mamba2, MAMBA2, ("dt_max",)),
    (Block, {"mixer": Mamba(**MAMBA)}, ("residual_scale",)),
]


@pytest.mark.parametrize(
    ("kind", "rest", "name"), [(kind, rest, name) for kind, rest, names in REALS for name in names]
)
@pytest.mark.parametrize("value", [0, -1e-5, NAN, INF, -INF, "1e-5"])
def test_scales_are_positive_and_finite(kind: type, rest: dict[str, Any], name: str, value: Any) -> None:
    """Oracle: field and value in the message."""
    message = refusal(lambda: kind(**rest | {name: value}))
    assert f"{kind.__name__}.{name} is {value!r}" in message
    assert "a positive finite number" in message


@pytest.mark.parametrize(
    ("make", "what", "right"),
    [
        (lambda: Attention(heads=6, kv_heads=4, head_dim=8), "Attention.kv_heads is 4", "divisor of heads (6)"),
        (lambda: Attention(heads=2, kv_heads=4, head_dim=8), "Attention.kv_heads is 4", "divisor of heads (2)"),
        (lambda: Attention(**ATTENTION, sink_tokens=3), "Attention.sink_tokens is 3", "zero where there is no window"),
        (lambda: Attention(**ATTENTION, window=5, sink_tokens=-1), "Attention.sink_tokens is -1", "zero or more"),
        (lambda: Attention(**ATTENTION, rope=Rope(base=1e4, dims=10)), "Rope.dims is 10", "at most head_dim (8)"),
        (lambda: Rope(base=1e4, dims=7), "Rope.dims is 7", "even"),
        (lambda: Rope(base=1e4, dims=2, scaling=NtkScaling(factor=2.0)), "Rope.dims is 2", "above 2 for NTK"),
        (
            lambda: Rope(base=1e4, dims=6, scaling=FactorScaling(factors=(1.0, 2.0))),
            "Rope.dims is 6",
            "twice the number of factors (2)",
        ),
        (lambda: FactorScaling(factors=(1.0, 0.0)), "FactorScaling.factors is (1.0, 0.0)", "positive finite numbers"),
        (lambda: FactorScaling(factors=(NAN,)), "FactorScaling.factors is (nan,)", "positive finite numbers"),
        (lambda: FactorScaling(factors=(INF,)), "FactorScaling.factors is (inf,)", "positive finite numbers"),
        (
            lambda: Llama3Scaling(**LLAMA3 | {"high_freq_factor": 1.0}),
            "Llama3Scaling.high_freq_factor is 1.0",
            "above low_freq_factor",
        ),
        (lambda: Mamba(**MAMBA, conv=1), "Mamba.conv is 1", "at least 2 taps"),
        (lambda: Mamba2(**MAMBA2, conv=1), "Mamba2.conv is 1", "at least 2 taps"),
        (lambda: Mamba2(**MAMBA2, groups=3), "Mamba2.groups is 3", "divisor of heads (4)"),
        (lambda: Mamba2(**MAMBA2, dt_min=-0.1), "Mamba2.dt_min is -0.1", "zero or more"),
        (lambda: Mamba2(**MAMBA2, dt_min=NAN), "Mamba2.dt_min is nan", "zero or more"),
        (lambda: Mamba2(**MAMBA2, dt_min=0.1, dt_max=0.1), "Mamba2.dt_max is 0.1", "above dt_min (0.1)"),
        (lambda: Mamba2(**MAMBA2, dt_min=0.1, dt_max=0.05), "Mamba2.dt_max is 0.05", "above dt_min (0.1)"),
        (lambda: Hyena(**HYENA, conv=1), "Hyena.conv is 1", "at least 2 taps"),
        (lambda: model(Hyena(d_state=2, filters=5)), "blocks[0] Hyena.filters is 5", "divisor of width (32)"),
        (lambda: model(Hyena(**HYENA, heads=3)), "blocks[0] Hyena.heads is 3", "divisor of width (32)"),
        (
            lambda: Parallel(attention=Attention(**ATTENTION), ssm=Mamba(**MAMBA | {"inner": 40})),
            "Parallel.attention channels is 32",
            "those of ssm (40)",
        ),
        (
            lambda: Parallel(attention=Attention(**ATTENTION, value_dim=5), ssm=Mamba2(**MAMBA2)),
            "Parallel.attention channels is 20",
            "those of ssm (32)",
        ),
        (lambda: Mlp(hidden=8, activation="relu"), "Mlp.activation is 'relu'", "'silu' or 'gelu'"),
        (lambda: Moe(experts=2, top_k=3, hidden=8), "Moe.top_k is 3", "at most experts (2)"),
        (lambda: model(), "ModelSpec.blocks is ()", "at least one block"),
        (lambda: model(Mamba(**MAMBA), vocab=-1), "ModelSpec.vocab is -1", "positive whole number"),
        (lambda: model(Mamba(**MAMBA), width=0), "ModelSpec.width is 0", "positive whole number"),
        (lambda: model(Mamba(**MAMBA), max_positions=0), "ModelSpec.max_positions is 0", "positive whole number"),
        (lambda: model(Mamba(**MAMBA), meta_tokens=-1), "ModelSpec.meta_tokens is -1", "zero or more"),
        (lambda: model(Mamba(**MAMBA), embed_scale=0.0), "ModelSpec.embed_scale is 0.0", "positive finite number"),
        (lambda: model(Mamba(**MAMBA), logit_scale=NAN), "ModelSpec.logit_scale is nan", "positive finite number"),
        # keys and values of another block
        (lambda: model(sharing(1), own()), "blocks[0] Attention.kv_from is 1", "the index of an earlier block"),
        (lambda: model(own(), sharing(1)), "blocks[1] Attention.kv_from is 1", "the index of an earlier block"),
        (lambda: model(own(), sharing(2)), "blocks[1] Attention.kv_from is 2", "the index of an earlier block"),
        (lambda: model(own(), sharing(-1)), "blocks[1] Attention.kv_from is -1", "the index of an earlier block"),
        (lambda: model(own(), sharing("0")), "blocks[1] Attention.kv_from is '0'", "the index of an earlier block"),
        (
            lambda: model(own(), sharing(0), sharing(1)),
            "blocks[2] Attention.kv_from is 1",
            "with keys and values of its own",
        ),
        (
            lambda: model(Mamba(**MAMBA), sharing(0)),
            "blocks[1] Attention.kv_from is 0",
            "with keys and values of its own",
        ),
        (
            lambda: model(own(), sharing(0, kv_heads=4)),
            "blocks[1] Attention.kv_from is 0",
            "the same key and value heads",
        ),
        (
            lambda: model(own(), sharing(0, head_dim=4)),
            "blocks[1] Attention.kv_from is 0",
            "the same key and value heads",
        ),
        (
            lambda: model(own(), sharing(0, value_dim=4)),
            "blocks[1] Attention.kv_from is 0",
            "the same key and value heads",
        ),
        (lambda: model(own(), sharing(0, window=9)), "blocks[1] Attention.window is 9", "within its owner's (8)"),
        (
            lambda: model(own(), sharing(0, window=None, sink_tokens=0)),
            "blocks[1] Attention.window is None",
            "within its owner's (8)",
        ),
        (lambda: model(own(), sharing(0, sink_tokens=3)), "blocks[1] Attention.", "within its owner's"),
        (
            lambda: model(own(), Parallel(attention=sharing(1), ssm=Mamba(**MAMBA))),
            "blocks[1] Attention.kv_from is 1",
            "the index of an earlier block",
        ),
    ],
)
def test_bad_constructions(make: Callable[[], Any], what: str, right: str) -> None:
    """Oracle: field, value and what would be right, by hand."""
    message = refusal(make)
    assert what in message
    assert right in message


def test_good_constructions_at_the_limits() -> None:
    """Oracle: the limits of the same rules from the allowed side."""
    model(own(), sharing(0, heads=2, window=1, sink_tokens=0))
    model(Attention(**ATTENTION), sharing(0, window=10**6), sharing(0, window=None, sink_tokens=0))
    model(Parallel(attention=own(), ssm=Mamba(**MAMBA)), sharing(0))
    Attention(**ATTENTION, rope=Rope(base=1e4, dims=8))
    Moe(experts=2, top_k=2, hidden=1)
    Rope(base=1e4, dims=4, scaling=NtkScaling(factor=2.0))
    Mamba2(**MAMBA2, dt_min=0.0, dt_max=1e-9)
    assert Attention(**ATTENTION, value_dim=5).v_dim == 5
    assert Attention(**ATTENTION, value_dim=5).inner == 20
    assert Attention(**ATTENTION).v_dim == 8
    assert Mamba2(**MAMBA2, groups=2).inner == 32
    assert Mamba2(**MAMBA2, groups=2).conv_width == 32 + 2 * 2 * 5


@pytest.mark.parametrize("index", [0, 2, -1, -3])
def test_replace_block(index: int) -> None:
    """Oracle: the same blocks in a list of Python, and a description that is left as it was."""
    spec = tiny("bamba", 0)
    mixer = Mamba(**MAMBA)
    changed = spec.replace_block(index, mixer=mixer, residual_scale=0.5)
    expected = list(spec.blocks)
    expected[index] = Block(mixer=mixer, ffn=expected[index].ffn, residual_scale=0.5)
    assert changed.blocks == tuple(expected)
    assert replace(changed, blocks=spec.blocks) == spec == tiny("bamba", 0)
    assert changed.state_specs[index] == mixer.state_spec(spec.width)


def test_replace_block_is_validated() -> None:
    """Oracle: the rules of construction hold for the changed description as a whole."""
    spec = model(own(), sharing(0), Mamba(**MAMBA))
    for index in (3, -4, 10**9):
        message = refusal(lambda index=index: spec.replace_block(index, ffn=None))
        assert f"block index is {index}" in message
        assert "from 0 to 2" in message
    assert "kv_from is 0" in refusal(lambda: spec.replace_block(0, mixer=Mamba(**MAMBA)))
    assert "residual_scale is 0" in refusal(lambda: spec.replace_block(0, residual_scale=0))
    message = refusal(lambda: spec.replace_block(0, surprise=1))
    assert "surprise" in message
    assert "mixer, ffn and residual_scale" in message


def test_descriptions_are_frozen() -> None:
    """Oracle: every field of every part refuses assignment, and no other can be added."""
    ffn = Moe(experts=2, top_k=1, hidden=3, shared=Mlp(hidden=4))
    parts = [*MIXERS.values(), ffn, ffn.shared, Block(mixer=own()), Norm(eps=1e-5), model(own())]
    parts += [Rope(base=1e4, dims=4), Llama3Scaling(**LLAMA3), LinearScaling(factor=2.0), NtkScaling(factor=2.0)]
    for part in parts:
        assert is_dataclass(part)
        for item in fields(part):
            with pytest.raises(FrozenInstanceError):
                setattr(part, item.name, None)
        # A class with slots has no place for other names; Python reports it as either of these.
        with pytest.raises((FrozenInstanceError, TypeError)):
            part.surprise = 1


def kept_of_a_ring(length: int, window: int, sink_tokens: int) -> int:
    """Positions in pages of which some query from `length` on can see a position, or which are sinks."""
    pages = range(0, length, PAGE_TOKENS)
    visible = [start for start in pages if start < sink_tokens or start + PAGE_TOKENS - 1 > length - window]
    return sum(min(PAGE_TOKENS, length - start) for start in visible)


@pytest.mark.parametrize("length", [0, 1, 100, 127, 128, 129, 255, 256, 400, 1000])
def test_state_bytes_of_keys_and_values(length: int) -> None:
    """Oracle: sums by hand: heads times (key + value) numbers a position, of all positions or of a ring's pages."""
    full, ring = Attention(**ATTENTION, value_dim=6), Attention(**ATTENTION, value_dim=6, window=150, sink_tokens=2)
    spec = model(full, ring, replace(ring, kv_from=1))
    positions = length + kept_of_a_ring(length, 150, 2)
    numbers = 2 * (8 + 6)
    assert spec.state_bytes(length) == positions * numbers * 4
    assert spec.state_bytes(length, dtype="bfloat16") == positions * numbers * 2
    assert spec.state_bytes(length, dtype="float64") == positions * numbers * 8
    assert spec.state_bytes(length, kv_dtype="fp8") == positions * numbers
    # int8: a float32 scale for the key and for the value of each head.
    assert spec.state_bytes(length, kv_dtype="int8") == positions * (numbers + 2 * 2 * 4)


@pytest.mark.parametrize("length", [0, 1, 10**9])
def test_state_bytes_of_recurrences(length: int) -> None:
    """Oracle: sums by hand; tails follow the activations' dtype, states are float32 or complex64, all constant."""
    spec = model(Mamba(**MAMBA), Mamba2(**MAMBA2, groups=2, conv=3), Hyena(**HYENA), Mamba2(**MAMBA2))
    tails = 32 * 3 + (32 + 2 * 2 * 5) * 2 + 3 * 32 * 2 + (32 + 2 * 5) * 3
    states = 4 * (32 * 4) + 2 * 4 * (4 * 8 * 5) + 8 * (32 * 2)
    assert spec.state_bytes(length) == 4 * tails + states
    assert spec.state_bytes(length, dtype="bfloat16", kv_dtype="int8") == 2 * tails + states


def test_state_bytes_count_the_prefix_and_both_branches() -> None:
    """Oracle: sums by hand: 10 learned and 7 user positions, beside the branch's recurrence."""
    mixer = Parallel(attention=Attention(**ATTENTION), ssm=Mamba(**MAMBA))
    recurrence = 4 * (32 * 3 + 32 * 4)
    assert model(mixer, meta_tokens=10).state_bytes(7) == 17 * 2 * 16 * 4 + recurrence
    assert model(mixer).state_bytes(7) == 7 * 2 * 16 * 4 + recurrence


def test_mixer_kinds() -> None:
    """Oracle: counts by hand, in order of first use."""
    parallel = Parallel(attention=Attention(**ATTENTION), ssm=Mamba(**MAMBA))
    spec = model(Mamba2(**MAMBA2), own(), Mamba2(**MAMBA2), parallel, Hyena(**HYENA), Mamba2(**MAMBA2))
    assert list(mixer_kinds(spec.blocks).items()) == [("Mamba2", 3), ("Attention", 1), ("Parallel", 1), ("Hyena", 1)]
    assert mixer_kinds([]) == {}


@pytest.mark.parametrize("window", [None, 1, 10, 100])
def test_flops_of_attention(window: int | None) -> None:
    """Oracle: the keys that each token sees, counted one by one."""
    attention = Attention(heads=3, kv_heads=1, head_dim=8, window=window, sink_tokens=0 if window is None else 4)
    for length in (1, 4, 14, 15, 21, 150):
        keys = sum(token if window is None else min(token, window + 4) for token in range(1, length + 1))
        assert attention.flops(64, length) == 2 * 3 * (8 + 8) * keys
