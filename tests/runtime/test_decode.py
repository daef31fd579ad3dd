"""Decode plans: one native call a token, against the model's own forward pass."""

from itertools import count

import pytest
import torch
from torch import Tensor

from braidlm.api import LanguageModel
from braidlm.ops import dispatch
from braidlm.runtime import decode
from braidlm.state import State
from tests.ops.levels import LEVELS, at_level
from tests.state.kinds import KINDS, VOCAB, build, difference, error, tokens
from tests.tolerances import RELATIVE_LOGITS, RELATIVE_LOGITS_EXPERTS, RELATIVE_LOGITS_STORED

pytestmark = pytest.mark.skipif(not LEVELS, reason="the native extension is not built")

BEST = LEVELS[-1:]
STEPS = 6


def decoder_of(model: LanguageModel, state: State, capacity: int, slots: list[int]) -> decode.Decoder:
    decoder = decode.Decoder(model.network, state.precision, capacity)
    for slot, row in zip(slots, state.rows, strict=True):
        decoder.put(slot, row)
    return decoder


def taken(decoder: decode.Decoder, slots: list[int], like: State) -> State:
    state = like.fork()
    for row, slot in enumerate(slots):
        state.put(row, decoder.take(slot))
    return state


def follow(model: LanguageModel, prompts: list[Tensor], kv_dtype: str | None = None) -> tuple[float, float]:
    """The largest errors of logits and of states over some steps after prompts, in slots out of order."""
    state = model.new_state(len(prompts), kv_dtype)
    with torch.no_grad(), dispatch.using("reference"):
        model.forward(prompts, state=state)
    slots = [slot for slot, _ in zip(range(len(prompts), -1, -1), prompts)]
    decoder = decoder_of(model, state, len(prompts) + 1, slots)
    worst = 0.0
    for ids in tokens(STEPS * len(prompts), seed=3).view(STEPS, -1):
        found = decoder.step(ids, slots)
        with torch.no_grad(), dispatch.using("reference"):
            expected = torch.cat(list(model.forward(list(ids[:, None]), state=state)))
        worst = max(worst, error(found, expected))
    after = taken(decoder, slots, state)
    assert after.nbytes == state.nbytes
    return worst, difference(after, state) if kv_dtype is None else 0.0


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("kind", KINDS)
def test_steps_are_the_models_own(kind: str, level: str) -> None:
    """Oracle: the reference forward pass in float32, token by token: logits and states; rows of unequal length."""
    with at_level(level):
        logits, states = follow(build(kind, "float32"), [tokens(126), tokens(5)])
    assert logits <= RELATIVE_LOGITS[torch.float32]
    assert states <= RELATIVE_LOGITS[torch.float32]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16(kind: str, level: str) -> None:
    """Oracle: the reference forward pass in bfloat16, which rounds between operations where a plan does not."""
    model = build(kind, "bfloat16")
    experts = any(block.ffn is not None for block in model.spec.blocks)
    with at_level(level):
        logits, _ = follow(model, [tokens(40), tokens(130)])
    assert logits <= (RELATIVE_LOGITS_EXPERTS if experts else RELATIVE_LOGITS[torch.bfloat16])


@pytest.mark.parametrize("level", BEST)
@pytest.mark.parametrize("kv_dtype", ["bfloat16", "float16", "fp8", "int8"])
@pytest.mark.parametrize("kind", ["attention", "window and pinned", "shared keys", "everything"])
def test_stored_keys_and_values(kind: str, kv_dtype: str, level: str) -> None:
    """Oracle: the reference forward pass with keys and values stored alike; float16 rounds less than bfloat16."""
    with at_level(level):
        logits, _ = follow(build(kind, "float32"), [tokens(126), tokens(5)], kv_dtype)
    assert logits <= RELATIVE_LOGITS_STORED["bfloat16" if kv_dtype == "float16" else kv_dtype]


@pytest.mark.parametrize("kind", KINDS)
def test_rows_and_slots_do_not_change_a_bit(kind: str) -> None:
    """Oracle: each sequence alone in slot 0; five at once, in slots out of order, on one and on two threads."""
    model = build(kind, "float32")
    state = model.new_state(5)
    with torch.no_grad():
        model.forward([tokens(n, seed=n) for n in (3, 140, 1, 127, 20)], state=state)
    ids = tokens(STEPS * 5).view(STEPS, 5)
    alone = []
    for row in range(5):
        decoder = decoder_of(model, state.fork(row), 1, [0])
        alone.append(torch.cat([decoder.step(ids[t, row : row + 1], [0]) for t in range(STEPS)]))
    threads = torch.get_num_threads()
    for many in (1, 2):
        slots = [6, 0, 3, 5, 1]
        together = decoder_of(model, state, 7, slots)
        torch.set_num_threads(many)
        try:
            found = torch.stack([together.step(ids[t], slots) for t in range(STEPS)], 1)
        finally:
            torch.set_num_threads(threads)
        assert torch.equal(found, torch.stack(alone))


@pytest.mark.parametrize("kind", ["everything", "window and pinned"])
def test_what_was_taken_stays(kind: str) -> None:
    """Oracle: the sequences that were put in and taken out, before the decoder moved on past the ends of pages."""
    model = build(kind, "float32")
    state = model.new_state(1)
    with torch.no_grad():
        model.forward(tokens(120)[None], state=state)
    before = state.fork()
    decoder = decoder_of(model, state, 1, [0])
    seen = []
    for step, ids in zip(count(), tokens(20)[:, None]):
        decoder.step(ids, [0])
        if step % 7 == 0:
            with torch.no_grad(), dispatch.using("reference"):
                model.forward(tokens(20)[None, step - min(step, 6) : step + 1], state=state)
            seen.append((taken(decoder, [0], state), state.fork()))
    assert state.lengths[0] > before.lengths[0] == 120
    for found, expected in seen:
        assert difference(found, expected) <= RELATIVE_LOGITS[torch.float32]


def test_wrong_steps_are_refused() -> None:
    """Oracle: the rule of what a step takes: known slots, once each, and ids of the vocabulary."""
    model = build("everything", "float32")
    decoder = decoder_of(model, model.new_state(2), 3, [0, 1])
    for ids, slots, message in [
        ([VOCAB], [0], "out of range"),
        ([-1], [0], "out of range"),
        ([1, 1], [0, 0], "one token a step"),
        ([1, 1], [0], "shape"),
    ]:
        with pytest.raises(ValueError, match=message):
            decoder.step(torch.tensor(ids), slots)


def test_where_plans_are_not_available() -> None:
    """Oracle: the rule: float32 and bfloat16 models, unless the reference was asked for."""
    assert decode.available(build("mamba", "float32").network)
    assert not decode.available(build("mamba", "float64").network)
    with dispatch.using("reference"):
        assert not decode.available(build("mamba", "float32").network)
