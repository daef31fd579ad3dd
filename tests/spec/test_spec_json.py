"""Descriptions as JSON and back."""

import json
from typing import Any

import pytest

from braidlm.spec import (
    Attention,
    Block,
    Hyena,
    LinearScaling,
    Mamba2,
    Mlp,
    ModelSpec,
    Moe,
    Norm,
    Rope,
)
from tests.families.tiny import TINY, tiny
from tests.spec.specs import ATTENTION, HYENA, MAMBA2, MIXERS, NAN, model, own, refusal, sharing


def through_text(spec: ModelSpec) -> ModelSpec:
    return ModelSpec.from_json(json.loads(json.dumps(spec.to_json(), allow_nan=False)))


def set_in(data: Any, path: tuple[Any, ...], value: Any) -> Any:
    """`data` with `value` at `path`; `...` takes the entry away."""
    place = data
    for step in path[:-1]:
        place = place[step]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return data


@pytest.mark.parametrize("family", TINY)
@pytest.mark.parametrize("seed", range(6))
def test_json_round_trip_of_every_family(family: str, seed: int) -> None:
    """Oracle: the description itself, equal in every field and in the slots made from it."""
    spec = tiny(family, seed)
    again = through_text(spec)
    assert again == spec
    assert again.state_specs == spec.state_specs
    assert hash(again) == hash(spec)
    assert again.to_json() == spec.to_json()


@pytest.mark.parametrize("mixer", MIXERS)
def test_json_round_trip_of_every_mixer(mixer: str) -> None:
    """Oracle: the description itself; each kind of mixer with its defaults and with every field set."""
    ffn = Moe(experts=4, top_k=3, hidden=7, shared=Mlp(hidden=5, activation="gelu", bias=True))
    block = Block(mixer=MIXERS[mixer], ffn=ffn, residual_scale=0.22)
    more = {"tied": True, "embed_scale": 12.0, "logit_scale": 0.25, "meta_tokens": 3, "max_positions": 99}
    spec = model(blocks=(block,), norm=Norm(eps=1e-6, eps_outside_root=True), **more)
    assert through_text(spec) == spec


def test_json_of_shared_keys() -> None:
    """Oracle: the description itself; index 0 as owner is not taken for a default."""
    spec = model(own(), sharing(0), sharing(0, window=4, sink_tokens=1))
    assert through_text(spec) == spec
    assert spec.to_json()["blocks"][1]["mixer"]["kv_from"] == 0


def test_json_says_no_defaults() -> None:
    """Oracle: the JSON written out by hand."""
    mixer = {"kind": "Hyena", "d_state": 2, "filters": 8, "heads": 4}
    assert model(Hyena(**HYENA, heads=4), tied=True).to_json() == {
        "kind": "ModelSpec",
        "vocab": 50,
        "width": 32,
        "blocks": [{"kind": "Block", "mixer": mixer}],
        "norm": {"kind": "Norm", "eps": 1e-5},
        "tied": True,
    }


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        # unknown fields
        (("surprise",), 1, ["spec has", "'surprise'", "ModelSpec", "max_positions"]),
        (("norm", "surprise"), 1, ["spec.norm has", "'surprise'", "Norm", "eps_outside_root"]),
        (("blocks", 1, "mixer", "surprise"), 1, ["spec.blocks[1].mixer has", "'surprise'", "Mamba2", "dt_max"]),
        (("blocks", 0, "mixer", "rope", "surprise"), 1, ["spec.blocks[0].mixer.rope has", "'surprise'", "Rope"]),
        (("_slots",), [], ["spec has", "'_slots'"]),
        # unknown kinds
        (("blocks", 1, "mixer", "kind"), "Rwkv", ["spec.blocks[1].mixer", "'Rwkv'", "Attention", "Mamba2", "Hyena"]),
        (("blocks", 1, "mixer", "kind"), "Mlp", ["spec.blocks[1].mixer", "'Mlp'", "Parallel"]),
        (("blocks", 1, "mixer", "kind"), ..., ["spec.blocks[1].mixer", "None", "Attention"]),
        (("blocks", 0, "ffn", "kind"), "Glu", ["spec.blocks[0].ffn", "'Glu'", "Mlp", "Moe"]),
        (("blocks", 0, "mixer", "rope", "scaling", "kind"), "Yarn", ["rope.scaling", "'Yarn'", "Llama3Scaling"]),
        # missing fields
        (("vocab",), ..., ["spec lacks", "'vocab'", "ModelSpec"]),
        (("norm", "eps"), ..., ["spec.norm lacks", "'eps'", "Norm"]),
        (("blocks", 1, "mixer", "heads"), ..., ["spec.blocks[1].mixer lacks", "'heads'", "Mamba2"]),
        (("blocks", 0, "mixer", "rope", "scaling", "factor"), ..., ["rope.scaling lacks", "'factor'"]),
        # wrong types
        (("vocab",), "50", ["spec.vocab is '50'", "int"]),
        (("vocab",), 50.0, ["spec.vocab is 50.0", "int"]),
        (("vocab",), True, ["spec.vocab is True", "int"]),
        (("vocab",), None, ["spec.vocab is None", "int"]),
        (("tied",), 1, ["spec.tied is 1", "bool"]),
        (("norm",), 1e-5, ["spec.norm is 1e-05", "Norm"]),
        (("norm",), [], ["spec.norm is []", "Norm"]),
        (("norm", "eps"), True, ["spec.norm.eps is True", "float"]),
        (("norm", "eps"), None, ["spec.norm.eps is None", "float"]),
        (("blocks",), {}, ["spec.blocks is {}", "list"]),
        (("blocks",), None, ["spec.blocks is None", "list"]),
        (("blocks", 1), 7, ["spec.blocks[1] is 7", "Block"]),
        (("blocks", 1, "mixer"), None, ["spec.blocks[1].mixer", "None", "Mamba"]),
        (("blocks", 1, "mixer"), "Mamba2", ["spec.blocks[1].mixer is 'Mamba2'", "object of kind Mamba2"]),
        (("blocks", 1, "mixer", "dt_max"), "inf", ["spec.blocks[1].mixer.dt_max is 'inf'", "float"]),
        (("blocks", 0, "mixer", "window"), 3.5, ["spec.blocks[0].mixer.window is 3.5", "int"]),
        (("blocks", 0, "ffn", "activation"), "relu", ["spec.blocks[0].ffn.activation is 'relu'", "'silu'", "'gelu'"]),
        (("blocks", 0, "ffn", "activation"), ["silu"], ["spec.blocks[0].ffn.activation is ['silu']", "'gelu'"]),
        # right types, wrong values
        (("vocab",), 0, ["ModelSpec.vocab is 0", "positive whole number"]),
        (("norm", "eps"), NAN, ["Norm.eps is nan", "positive finite number"]),
        (("blocks",), [], ["ModelSpec.blocks is ()", "at least one block"]),
    ],
)
def test_wrong_json_is_refused(path: tuple[Any, ...], value: Any, words: list[str]) -> None:
    """Oracle: the place in the JSON, what stands there, and what would be right, by hand."""
    rope = Rope(base=1e4, dims=8, scaling=LinearScaling(factor=2.0))
    attention = Attention(**ATTENTION, rope=rope)
    blocks = (Block(mixer=attention, ffn=Mlp(hidden=9)), Block(mixer=Mamba2(**MAMBA2)))
    data = set_in(model(blocks=blocks).to_json(), path, value)
    message = refusal(lambda: ModelSpec.from_json(data))
    for word in words:
        assert word in message


@pytest.mark.parametrize("data", [None, 3, "spec", []])
def test_json_that_is_no_object(data: Any) -> None:
    """Oracle: what was given, and that an object is wanted."""
    message = refusal(lambda: ModelSpec.from_json(data))
    assert repr(data) in message
    assert "object of kind ModelSpec" in message
