"""Layouts: which blocks get which mixers, and layouts that make no sense."""

import math
import random
import re
from typing import Any

import pytest

from braidlm.errors import InputError
from braidlm.graft.blocks import parse_blocks
from braidlm.graft.layout import Layout, Rule, candidates, hybrid_spec
from braidlm.graft.options import MixerOptions
from braidlm.spec import Attention, Block, Mamba2, Mlp, ModelSpec, Norm, Rope, attention_of
from tests.families.tiny import tiny

ATTENTION = Attention(heads=4, kv_heads=2, head_dim=8, rope=Rope(base=1e4, dims=8))
WINDOW = MixerOptions(kind="window", window=8)


def donor(*mixers: Any, width: int = 32) -> ModelSpec:
    """A donor with these mixers; four times the same attention by default."""
    blocks = tuple(Block(mixer=mixer, ffn=Mlp(hidden=16)) for mixer in mixers or (ATTENTION,) * 4)
    return ModelSpec(vocab=50, width=width, blocks=blocks, norm=Norm(eps=1e-5))


@pytest.mark.parametrize(
    ("text", "blocks"),
    [("0", [0]), ("all", list(range(10))), ("1, 4-6", [1, 4, 5, 6]), ("0-8:4, 8", [0, 4, 8]), ("9-9", [9])],
)
def test_lists_of_blocks(text: str, blocks: list[int]) -> None:
    """Oracle: the blocks, by hand."""
    assert parse_blocks(text, 10, "blocks") == blocks


@pytest.mark.parametrize("text", ["", "x", "3-1", "-1", "10", "0-10", "0-4:0", "1,,2"])
def test_lists_that_are_none(text: str) -> None:
    """Oracle: one sentence that begins with the setting."""
    with pytest.raises(InputError, match=r"^layout\.rules\.0\.blocks (is|names) "):
        parse_blocks(text, 10, "layout.rules.0.blocks")


def test_kinds_have_the_donors_sizes() -> None:
    """Oracle: by hand: heads, their size and their number of keys become heads, head size and states."""
    kinds = {
        "mamba2": MixerOptions(kind="mamba2"),
        "mamba": MixerOptions(kind="mamba"),
        "hyena": MixerOptions(kind="hyena"),
        "parallel": MixerOptions(kind="parallel", window=8, sink_tokens=2),
    }
    made = {name: candidates(Layout(mixer=options), donor()).mixers[0] for name, options in kinds.items()}
    mamba2: Any = made["mamba2"]
    assert (mamba2.heads, mamba2.head_dim, mamba2.d_state, mamba2.groups) == (4, 8, 8, 4)
    mamba: Any = made["mamba"]
    assert (mamba.inner, mamba.d_state, mamba.dt_rank) == (32, 16, math.ceil(32 / 16))
    hyena: Any = made["hyena"]
    assert (hyena.filters, hyena.d_state) == (4, 16)
    parallel: Any = made["parallel"]
    assert (parallel.attention.window, parallel.attention.sink_tokens, parallel.combine) == (8, 2, "sum")
    assert parallel.ssm == mamba2


def test_rules_hold_over_the_mixer_and_each_other() -> None:
    """Oracle: by hand: the last rule that names a block decides; `keep` counts blocks that rules keep."""
    rules = (Rule(blocks="0-1"), Rule(blocks="1", mixer=MixerOptions(kind="mamba2")))
    found = candidates(Layout(mixer=WINDOW, rules=rules, keep=0.5), donor())
    assert sorted(found.mixers) == [1, 2, 3]
    assert (found.replaced, found.kept, found.keep, found.open) == ({1}, {0}, 2, [2, 3])
    assert found.chosen({2: 0.3, 3: 0.7}) == [1, 2]
    assert found.chosen({2: 0.5, 3: 0.5}) == [1, 3]


def test_shared_keys_and_values() -> None:
    """Oracle: by hand: an owner is the last block before that keeps keys and values, or the one that is named."""
    rules = (Rule(blocks="1,3", mixer=MixerOptions(kind="shared")),)
    spec = donor()
    found = candidates(Layout(rules=rules), spec)
    made = hybrid_spec(spec, found.mixers, found.mixers)
    owners = [attention.kv_from for block in made.blocks if (attention := attention_of(block.mixer))]
    assert owners == [None, 0, None, 2]
    assert made.state_bytes(100) == spec.state_bytes(100) // 2


def test_meta_tokens_are_shown_by_every_window() -> None:
    """Oracle: by hand: a window shows its sinks and the vectors before every sequence."""
    layout = Layout(
        rules=(Rule(blocks="1", mixer=MixerOptions(kind="window", window=8, sink_tokens=3)),), meta_tokens=5
    )
    spec = donor(ATTENTION, ATTENTION, Attention(heads=4, kv_heads=2, head_dim=8, window=6))
    found = candidates(layout, spec)
    made = hybrid_spec(spec, found.mixers, found.mixers, 5)
    sinks = [attention.sink_tokens for block in made.blocks if (attention := attention_of(block.mixer))]
    assert (made.meta_tokens, sinks) == (5, [0, 8, 5])


MAMBA2 = Mamba2(heads=4, head_dim=8, d_state=4)
SHARING = Attention(heads=4, kv_heads=2, head_dim=8, kv_from=0)
WIDE = Attention(heads=8, kv_heads=2, head_dim=8)


@pytest.mark.parametrize(
    ("spec", "rule", "message"),
    [
        (donor(MAMBA2), Rule(blocks="0", mixer=WINDOW), "block 0 of the donor has a Mamba2 mixer, but only attention"),
        (
            donor(ATTENTION, SHARING),
            Rule(blocks="1", mixer=MixerOptions(kind="mamba2")),
            "block 1 of the donor has no keys and values of its own, but those of block 0",
        ),
        (
            donor(WIDE),
            Rule(blocks="0", mixer=MixerOptions(kind="hyena")),
            "block 0 cannot be replaced by hyena: its heads have 64 channels together",
        ),
        (donor(), Rule(blocks="0", mixer=MixerOptions(kind="shared")), "block 0 cannot be replaced by shared"),
        (donor(), Rule(blocks="7", mixer=WINDOW), "names block 7, but the donor has the blocks 0 to 3"),
    ],
)
def test_blocks_that_cannot_be_replaced(spec: ModelSpec, rule: Rule, message: str) -> None:
    """Oracle: the block and the reason, in one sentence."""
    with pytest.raises(InputError, match=re.escape(message)):
        candidates(Layout(rules=(rule,)), spec)


def test_an_owner_that_is_replaced() -> None:
    """Oracle: the block whose keys and values are gone, named by the spec's own check."""
    spec = donor(ATTENTION, SHARING)
    found = candidates(Layout(rules=(Rule(blocks="0", mixer=MixerOptions(kind="mamba2")),)), spec)
    with pytest.raises(InputError, match=re.escape("blocks[1] Attention.kv_from is 0")):
        hybrid_spec(spec, found.mixers, found.mixers)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "window"}, "mixer.window is None"),
        ({"kind": "mamba2", "window": 4}, "mixer.window is 4"),
        ({"kind": "mamba2", "sink_tokens": 4}, "mixer.sink_tokens is 4"),
        ({"kind": "spec"}, "mixer.spec is None"),
        ({"kind": "hyena", "kv_from": 1}, "mixer.kv_from is 1"),
        ({"kind": "linear"}, "mixer.kind is 'linear'"),
    ],
)
def test_options_that_do_not_go_together(options: dict[str, Any], message: str) -> None:
    """Oracle: the setting, in one sentence."""
    with pytest.raises(InputError, match=re.escape(message)):
        MixerOptions(**options)


def test_every_family_says_what_it_can() -> None:
    """Oracle: the families' own blocks: windows go wherever attention is a mixer by itself."""
    for family in ("bamba", "granitemoehybrid", "stripedhyena", "llama", "mistral", "granite"):
        spec = tiny(family, random.Random(family).randrange(9))
        found = candidates(Layout(mixer=WINDOW), spec)
        attentive = [index for index, block in enumerate(spec.blocks) if type(block.mixer) is Attention]
        assert sorted(found.mixers) == attentive, family
