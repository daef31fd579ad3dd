"""Bytes of states by kind, and what an engine's slots hold."""

import pytest
import torch

import braidlm
from braidlm import families
from braidlm.decode.decode import Decoder, available
from braidlm.engine.limits import Limits
from braidlm.families.presets import PRESETS
from braidlm.planner.engine_memory import EngineMemory, engine_memory
from braidlm.planner.state import StateMemory, bytes_per_token, last_page_room, state_by_block, state_memory
from braidlm.planner.synthetic_state import synthetic_state
from braidlm.spec.state import PAGE_TOKENS, WindowKV
from braidlm.state.sequence import Precision, empty_sequence
from tests.families.tiny import TINY, tiny

LENGTHS = (0, 1, PAGE_TOKENS - 1, PAGE_TOKENS, PAGE_TOKENS + 1, 300)


def test_no_family_is_missing() -> None:
    """Oracle: the families that checkpoints may be of."""
    assert TINY.keys() == {name for family in families.families() for name in family.model_types}


@pytest.mark.parametrize("kv_dtype", ["float32", "bfloat16", "fp8", "int8"])
@pytest.mark.parametrize("family", TINY)
def test_states_of_every_family(family: str, kv_dtype: str) -> None:
    """Oracle: the tensors of the states that the model itself leaves, kind by kind and block by block."""
    model = braidlm.build(tiny(family, 0), dtype="bfloat16")
    precision = Precision.of(torch.bfloat16, kv_dtype)
    state, seen = model.new_state(kv_dtype=kv_dtype), 0
    for length in LENGTHS:
        if length > seen:
            model.forward(torch.ones(1, length - seen, dtype=torch.int64), state=state)
            seen = length
        expected = []
        for layer in state.sequences[0].layers:
            recurrent = sum(tensor.nbytes for tensor in layer.recurrent.values())
            kv = layer.nbytes - recurrent
            windowed = layer.kv is not None and isinstance(layer.kv.spec, WindowKV)
            expected.append(StateMemory(0 if windowed else kv, kv if windowed else 0, recurrent))
        assert state_by_block(model.spec, length, precision) == expected
        assert state_memory(model.spec, length, precision).total == state.nbytes


@pytest.mark.parametrize(
    "name", ["mamba-130m", "mamba2-130m", "hymba-1.5b", "granite-4.0-h-350m", "mistral-7b", "smollm2-135m"]
)
def test_states_of_published_shapes(name: str) -> None:
    """Oracle: the tensors of a state that is laid out after so many tokens, behind the window of Hymba."""
    spec, precision, length = PRESETS[name]().spec, Precision.of(torch.bfloat16, "int8"), 1100
    made = synthetic_state(empty_sequence(spec, precision, torch.device("cpu")), length, torch.bfloat16)
    assert sum(layer.nbytes for layer in made.layers) == state_memory(spec, length, precision).total


@pytest.mark.parametrize("family", TINY)
def test_bytes_of_a_token(family: str) -> None:
    """Oracle: what the state grows by from no token to one."""
    spec, precision = tiny(family, 0), Precision.of(torch.float32, "int8")
    first, second = (state_memory(spec, length, precision) for length in (0, 1))
    grown = StateMemory(*(after - before for after, before in zip(second, first, strict=True)))
    assert grown.kv == bytes_per_token(spec, "int8").kv
    # Where meta tokens fill the window already, a page of it leaves as the next token comes.
    assert grown.window_kv <= bytes_per_token(spec, "int8").window_kv


@pytest.mark.parametrize("family", ["hymba", "stripedhyena", "llama"])
def test_slots_of_the_decoder(family: str) -> None:
    """Oracle: the tensors of the native decoder, with one sequence in one of three slots."""
    model = braidlm.build(tiny(family, 0))
    if not available(model.network):
        pytest.skip("there is no native decoder here")
    state, length = model.new_state(), 200
    model.forward(torch.ones(1, length, dtype=torch.int64), state=state)
    decoder = Decoder(model.network, state.precision, 3)
    decoder.set_state(1, state.sequences[0])
    found = engine_memory(model.spec, length, state.precision, Limits(parallel=3))
    assert found.slots == sum(slab.nbytes for slab in decoder._states)
    tails = decoder._tails[1].values()
    pages = [page for tail in tails for page in (*tail.full, *([tail.last] if tail.last else []))]
    held = sum(page.k.nbytes() + page.v.nbytes() for page in pages)
    assert found.state.kv + found.state.window_kv + found.room == held


@pytest.mark.parametrize("family", ["mamba", "hymba", "llama"])
@pytest.mark.parametrize("sessions", [0, 1, 3, 4, 9])
def test_sessions_in_memory(family: str, sessions: int) -> None:
    """Oracle: the bytes of so many sessions: one byte less holds one session less."""
    limits = Limits(parallel=4)
    memory = engine_memory(tiny(family, 0), 100, Precision.of(torch.bfloat16), limits)
    exact = memory.held(sessions, limits)
    assert memory.sessions_in(exact, limits) == sessions
    assert memory.sessions_in(exact - 1, limits) == max(0, sessions - 1)


@pytest.mark.parametrize(("family", "count"), [("llama", 1), ("mamba", 4)])
def test_snapshots_of_a_prompt(family: str, count: int) -> None:
    """Oracle: by hand; after 100, 200, 300 and 349 of 350 tokens, or one that can be truncated to any of them."""
    limits = Limits(snapshot_interval=100)
    found: EngineMemory = engine_memory(tiny(family, 0), 350, Precision.of(torch.bfloat16), limits)
    assert found.snapshots == count


def test_room_of_whole_pages() -> None:
    """Oracle: a length of whole pages leaves none free, one more token leaves all of a page but that."""
    spec = tiny("llama", 0)
    assert last_page_room(spec, PAGE_TOKENS, "bfloat16") == 0
    one = bytes_per_token(spec, "bfloat16").total
    assert last_page_room(spec, PAGE_TOKENS + 1, "bfloat16") == (PAGE_TOKENS - 1) * one
