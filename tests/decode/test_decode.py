"""Decode plans: one native call a token, against the model's own forward pass."""

from collections.abc import Sequence
from itertools import count

import pytest
import torch
from torch import Tensor

import braidlm
from braidlm.api.language_model import LanguageModel
from braidlm.decode import decode
from braidlm.ops import dispatch
from braidlm.spec import Attention, Block, Mamba2, Mlp, ModelSpec, Moe, Norm
from braidlm.spec.state import PAGE_TOKENS
from braidlm.state.batch import BatchState
from tests.ops.levels import LEVELS, at_level
from tests.state.kinds import KINDS, VOCAB, build, difference, error, tokens
from tests.tolerances import RELATIVE_LOGITS, RELATIVE_LOGITS_EXPERTS, RELATIVE_LOGITS_STORED

pytestmark = pytest.mark.skipif(not LEVELS, reason="the native extension is not built")

BEST = LEVELS[-1:]
STEPS = 6


def decoder_of(model: LanguageModel, state: BatchState, capacity: int, slots: list[int]) -> decode.Decoder:
    decoder = decode.Decoder(model.network, state.precision, capacity)
    for slot, row in zip(slots, state.sequences, strict=True):
        decoder.set_state(slot, row)
    return decoder


def taken(decoder: decode.Decoder, slots: list[int], like: BatchState) -> BatchState:
    state = like.fork()
    for row, slot in enumerate(slots):
        state.set_sequence(row, decoder.state_of(slot))
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
@pytest.mark.parametrize("kind", ["attention", "window and sinks", "shared keys", "everything"])
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


def wide() -> LanguageModel:
    """Widths that matrix units take beside one that they do not, and outputs that fill no tile of them."""
    mixers = (Mamba2(heads=4, head_dim=16, d_state=8), Attention(heads=4, kv_heads=2, head_dim=16))
    blocks = tuple(
        Block(mixer=mixer, ffn=ffn)
        for mixer, ffn in zip(mixers, (Moe(experts=3, top_k=2, hidden=32, shared=Mlp(hidden=40)), Mlp(hidden=96)))
    )
    return braidlm.build(ModelSpec(vocab=VOCAB, width=64, blocks=blocks, norm=Norm(eps=1e-5)), dtype="bfloat16")


@pytest.mark.parametrize("level", LEVELS)
def test_many_rows_in_bfloat16(level: str) -> None:
    """Oracles: the reference forward pass, within its rounding; each row alone, bit for bit."""
    model, lengths = wide(), range(1, 20)
    prompts = [tokens(n, seed=n) for n in lengths]
    with at_level(level):
        logits, _ = follow(model, prompts)
        assert logits <= RELATIVE_LOGITS_EXPERTS
        state, alone = several(model, lengths)
        together = decoder_of(model, state, len(lengths), list(range(len(lengths))))
        for ids in tokens(STEPS * len(lengths)).view(STEPS, -1):
            expected = [decoder.step(ids[row : row + 1], [0]) for row, decoder in enumerate(alone)]
            assert torch.equal(together.step(ids, list(range(len(lengths)))), torch.cat(expected))


@pytest.mark.parametrize("kind", ["everything", "window and sinks"])
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


def several(model: LanguageModel, lengths: Sequence[int]) -> tuple[BatchState, list[decode.Decoder]]:
    """Rows of these lengths, each in a decoder of its own."""
    state = model.new_state(len(lengths))
    with torch.no_grad():
        model.forward([tokens(n, seed=n) for n in lengths], state=state)
    return state, [decoder_of(model, state.fork(row), 1, [0]) for row in range(len(lengths))]


def one_by_one(decoder: decode.Decoder, ids: Tensor) -> Tensor:
    return torch.cat([decoder.step(token[None], [0]) for token in ids])


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("kind", KINDS)
def test_several_tokens_a_step(kind: str, level: str) -> None:
    """Oracle: one token a step, bit for bit; rows with 9, 1 and 4 tokens at once, past the ends of pages."""
    model, counts, slots = build(kind, "float32"), (9, 1, 4), (2, 0, 1)
    with at_level(level):
        state, alone = several(model, [124, 20, 1])
        together = decoder_of(model, state, 3, list(slots))
        for turn in range(3):
            ids = [tokens(n, seed=turn) for n in counts]
            found = together.step(torch.cat(ids), [slot for slot, n in zip(slots, counts) for _ in range(n)])
            expected = torch.cat([one_by_one(decoder, row) for decoder, row in zip(alone, ids)])
            assert torch.equal(found, expected)
        for row, decoder in enumerate(alone):
            assert difference(taken(together, [slots[row]], state.fork(row)), taken(decoder, [0], state.fork(row))) == 0


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("kind", KINDS)
def test_tokens_are_taken_back(kind: str, level: str) -> None:
    """Oracle: decoders that never saw those tokens, bit for bit: states, and logits of what comes instead."""
    model = build(kind, "float32")
    with at_level(level):
        state, alone = several(model, [120, 5, 250])
        together = decoder_of(model, state, 3, [0, 1, 2])
        for turn, unused in enumerate([(0, 3, 7), (7, 1, 2), (5, 0, 1), (3, 3, 3)] * 2):
            ids = [tokens(n, seed=turn) for n in (8, 4, 8)]
            together.step(torch.cat(ids), [0] * 8 + [1] * 4 + [2] * 8, keep=range(3))
            together.rollback({slot: n for slot, n in enumerate(unused) if n})
            for decoder, row, n in zip(alone, ids, unused):
                one_by_one(decoder, row[: len(row) - n])
            for row, decoder in enumerate(alone):
                kept, wanted = taken(together, [row], state.fork(row)), taken(decoder, [0], state.fork(row))
                assert kept.lengths == wanted.lengths
                assert kept.nbytes == wanted.nbytes
                assert difference(kept, wanted) == 0
            ids_ = tokens(3, seed=turn + 50)
            expected = torch.cat([decoder.step(ids_[i : i + 1], [0]) for i, decoder in enumerate(alone)])
            assert torch.equal(together.step(ids_, [0, 1, 2]), expected)


def test_wrong_steps_are_refused() -> None:
    """Oracle: the rule of what a step takes: known slots, the tokens of each in a row, and ids of the vocabulary."""
    model = build("everything", "float32")
    decoder = decoder_of(model, model.new_state(2), 3, [0, 1])
    for ids, slots, message in [
        ([VOCAB], [0], "out of range"),
        ([-1], [0], "out of range"),
        ([1, 1, 1], [0, 1, 0], "come in a row"),
        ([1, 1], [0], "shape"),
    ]:
        with pytest.raises(ValueError, match=message):
            decoder.step(torch.tensor(ids), slots)


@pytest.mark.parametrize("kind", KINDS)
def test_a_failed_step_moves_nothing(kind: str) -> None:
    """Oracle: decoders in which none failed, bit for bit; the steps would begin pages, and go past the end of one."""
    model, counts = build(kind, "float32"), (1, 2, 8)
    state, alone = several(model, [PAGE_TOKENS, 1, 2 * PAGE_TOKENS - 3])
    together = decoder_of(model, state, 4, [0, 1, 2])
    together.set_state(3, model.new_state(1).sequences[0])
    slots = [slot for slot, n in enumerate(counts) for _ in range(n)]
    ids = torch.cat(given := [tokens(n, seed=n) for n in counts])
    for _ in range(2):
        with pytest.raises(ValueError, match="out of range"):
            together.step(torch.cat([ids, torch.tensor([VOCAB])]), [*slots, 3], keep=(0, 1, 2))
    assert [together.state_of(slot).length for slot in range(4)] == [*state.lengths, 0]
    expected = torch.cat([one_by_one(decoder, row) for decoder, row in zip(alone, given)])
    assert torch.equal(together.step(ids, slots), expected)
    for row, decoder in enumerate(alone):
        assert difference(taken(together, [row], state.fork(row)), taken(decoder, [0], state.fork(row))) == 0


def test_where_plans_are_not_available() -> None:
    """Oracle: the rule: float32 and bfloat16 models, unless the reference was asked for."""
    assert decode.available(build("mamba", "float32").network)
    assert not decode.available(build("mamba", "float64").network)
    with dispatch.using("reference"):
        assert not decode.available(build("mamba", "float32").network)
