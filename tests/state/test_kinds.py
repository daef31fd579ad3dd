"""The invariants of state for every kind of mixer, in float64, where nothing hides behind rounding."""

from collections.abc import Iterable
from itertools import pairwise

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from braidlm.api.language_model import LanguageModel
from braidlm.ops import Segments
from braidlm.state.batch import BatchState
from tests.state.kinds import KINDS, bits, build, difference, error, fresh, memory, tokens
from tests.tolerances import RELATIVE_LOGITS, RELATIVE_LOGITS_EXPERTS, RELATIVE_LOGITS_STORED

EXACT = RELATIVE_LOGITS[torch.float64]
LENGTH = 140  # past the first page of keys
KV_DTYPES = ("float32", "bfloat16", "fp8", "int8")
ONE_BY_ONE = list(range(1, LENGTH))
LATE_ONE_BY_ONE = [1, 2, *range(110, LENGTH)]

properties = settings(max_examples=6, deadline=None, derandomize=True)
cuts = st.lists(st.one_of(st.integers(1, LENGTH - 1), st.sampled_from([1, 127, 128, 129])), max_size=5, unique=True)
some_lengths = st.lists(st.sampled_from([0, 1, 2, 3, 17, 65, 130]), min_size=1, max_size=4)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


def in_parts(
    model: LanguageModel, ids: Tensor, at: list[int], kv_dtype: str | None = None
) -> tuple[Tensor, BatchState]:
    state = model.new_state(kv_dtype=kv_dtype)
    bounds = [0, *sorted(at), len(ids)]
    logits = [model.forward(ids[None, begin:end], state=state)[0] for begin, end in pairwise(bounds)]
    return torch.cat(logits), state


def test_any_split_gives_the_same(kind: str) -> None:
    """Oracle: the whole sequence in one pass: logits and every number of the state; one by one, and split at random."""
    model, ids = build(kind), tokens(LENGTH)
    whole, after = in_parts(model, ids, [])

    @properties
    @given(cuts)
    @example(ONE_BY_ONE)
    def check(at: list[int]) -> None:
        found, state = in_parts(model, ids, at)
        assert error(found, whole) <= EXACT
        assert difference(state, after) <= EXACT

    check()


@pytest.mark.parametrize("kv_dtype", KV_DTYPES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_any_split_at_every_precision(dtype: str, kv_dtype: str) -> None:
    """Oracle: the whole sequence in one pass with keys and values stored in the same format."""
    model, ids = build("everything", dtype), tokens(LENGTH)
    whole, _ = in_parts(model, ids, [], kv_dtype)
    experts = RELATIVE_LOGITS_EXPERTS if dtype == "bfloat16" else 0.0
    allowed = max(experts, RELATIVE_LOGITS[model.network.dtype], RELATIVE_LOGITS_STORED[kv_dtype])

    @properties
    @given(cuts)
    @example(LATE_ONE_BY_ONE)
    def check(at: list[int]) -> None:
        assert error(in_parts(model, ids, at, kv_dtype)[0], whole) <= allowed

    check()


def test_a_ragged_batch_is_each_row_alone(kind: str) -> None:
    """Oracle: each row alone: logits and every number of the state, twice in a row with other lengths."""
    model = build(kind)

    @properties
    @given(some_lengths.filter(any), some_lengths)
    @example([65, 65, 3], [2, 2, 2])
    @example([0, 130, 0], [1, 0, 0])
    def check(first: list[int], second: list[int]) -> None:
        second = [*second, 1, 1, 1, 1][: len(first)]
        state = model.new_state(len(first))
        alone = [model.new_state() for _ in first]
        for step, lengths in enumerate((first, second)):
            if not any(lengths):
                continue
            rows = [tokens(n, 10 * step + row) for row, n in enumerate(lengths)]
            found = model.forward(rows, state=state)
            for row, ids in enumerate(rows):
                if len(ids):
                    assert error(found[row], model.forward(ids[None], state=alone[row])[0]) <= EXACT
                assert difference(state.select([row]), alone[row]) <= EXACT

    check()


def test_states_inside_a_pass_are_those_of_its_prefixes(kind: str) -> None:
    """Oracle: runs that stop at each mark, every number of their states; the pass itself does not notice."""
    model = build(kind)
    rows, marks = [tokens(LENGTH, 1), tokens(33, 2), tokens(LENGTH, 3)], [[1, 64, 129, 140], [], [1]]
    state, plain = model.new_state(3), model.new_state(3)
    out = model.forward(rows, state=state, state_at=marks)
    for found, expected in zip(out.logits, model.forward(rows, state=plain), strict=True):
        assert error(found, expected) <= EXACT
    assert difference(state, plain) <= EXACT
    for row, positions, states in zip(rows, marks, out.states, strict=True):
        assert states.lengths == tuple(positions)
        for index, position in enumerate(positions):
            alone = model.new_state()
            model.forward(row[None, :position], state=alone)
            assert difference(states.select([index]), alone) <= EXACT


def test_a_fork_is_independent(kind: str) -> None:
    """Oracle: the bits of a state and its logits, whatever its fork, and its fork's fork, have done since."""
    model, ids = build(kind), tokens(LENGTH)
    state = model.new_state()
    model.forward(ids[None, :130], state=state)
    before = bits(state)
    fork, other = state.fork(), state.fork(0)
    expected = model.forward(ids[None, 130:], state=other)
    model.forward(tokens(LENGTH, 9)[None], state=fork)
    model.forward(tokens(3, 8)[None], state=fork.fork())
    assert bits(state) == before
    assert torch.equal(model.forward(ids[None, 130:], state=state), expected)
    assert bits(state) == bits(other)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kv_dtype", [*KV_DTYPES, None])
def test_memory_is_what_the_plan_says(kind: str, dtype: str, kv_dtype: str | None) -> None:
    """Oracle: `spec.state_bytes`, and the distinct memory that rows of a batch, alone or taken out, keep alive."""
    model = build(kind, dtype)
    state = model.new_state(3, kv_dtype)
    model.forward([tokens(n) for n in (300, 5, 129)], state=state)
    out = model.forward([tokens(n) for n in (1, 40, 1)], state=state, state_at=[[1], [7, 20], []])

    def planned(of: BatchState) -> int:
        return sum(model.spec.state_bytes(n, dtype=dtype, kv_dtype=kv_dtype) for n in of.lengths)

    for held in (state, *out.states, *(state.select([row]) for row in range(3)), out.states[1].select([0])):
        assert held.nbytes == planned(held)
        assert memory(held) <= planned(held)
    assert memory(state, state.fork(), state.select([2, 1, 0])) == memory(state)


def test_gradients_reach_back_through_a_state(kind: str) -> None:
    """Oracle: one pass over the whole sequence, of which only the second half counts; its first half gets a share."""
    network = fresh(kind).network
    ids, first = tokens(14, 4), 8
    ids[:first] %= 25
    ids[first:] = 25 + ids[first:] % 25  # the halves have no token in common
    parameters = [network.embed.weight, *network.requires_grad_(True).blocks.parameters()]
    whole = network(ids, Segments((14,)), network.new_state(1)).logits[first:]
    carried = network(ids[:first], Segments((first,)), network.new_state(1)).state
    second = network(ids[first:], Segments((14 - first,)), carried).logits
    weights = torch.randn(second.shape, dtype=torch.float64)
    expected = torch.autograd.grad((whole * weights).sum(), parameters)
    found = torch.autograd.grad((second * weights).sum(), parameters)
    # Relative to the largest of all: some, as that of a key's bias, are zero but for rounding.
    assert error(flat(found), flat(expected)) <= EXACT
    assert found[0][ids[:first]].abs().amax(1).min() > 0


def flat(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([t.flatten() for t in tensors])


@pytest.mark.parametrize("kind", ["mamba", "mamba2", "hyena", "everything"])
def test_gradients_of_an_initial_state(kind: str) -> None:
    """Oracle: finite differences in float64, from each recurrent state of the first row to logits and final state."""
    network = fresh(kind).network.requires_grad_(False)
    ids = tokens(4)
    state = network.new_state(1)
    slots = [(layer.recurrent, name) for layer in state.sequences[0].layers for name in layer.recurrent]
    leaves = [torch.randn_like(recurrent[name]).requires_grad_() for recurrent, name in slots]

    def function(*given: Tensor) -> tuple[Tensor, ...]:
        for (recurrent, name), value in zip(slots, given, strict=True):
            recurrent[name] = value
        out = network(ids, Segments((4,)), state)
        after = [layer.recurrent[name] for layer in out.state.sequences[0].layers for name in sorted(layer.recurrent)]
        return (out.logits, *after)

    assert torch.autograd.gradcheck(function, leaves, fast_mode=True)
