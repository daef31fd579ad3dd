"""The five invariants of state, as properties of every family."""

from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import braidlm
from braidlm.api.language_model import LanguageModel
from braidlm.errors import StateError
from braidlm.ops import Segments
from braidlm.spec import Moe
from braidlm.spec.state import PAGE_TOKENS
from braidlm.state.batch import BatchState
from tests.families.tiny import TINY, tiny
from tests.tolerances import RELATIVE_GRADIENT, RELATIVE_LOGITS, RELATIVE_LOGITS_EXPERTS, RELATIVE_LOGITS_STORED

SEEDS = (0, 1)
LENGTH = 150
DTYPES = ("float32", "bfloat16")
KV_DTYPES = ("float32", "bfloat16", "fp8", "int8")

properties = settings(max_examples=4, deadline=None, derandomize=True)
cuts = st.lists(st.integers(1, LENGTH - 1), max_size=6, unique=True).map(sorted)


@cache
def build(family: str, seed: int, dtype: str) -> LanguageModel:
    return braidlm.build(tiny(family, seed), seed=seed, dtype=dtype)


@pytest.fixture(params=TINY)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=DTYPES)
def dtype(request: pytest.FixtureRequest) -> str:
    return request.param


def prompt(model: LanguageModel, length: int = LENGTH, seed: int = 5) -> Tensor:
    return torch.randint(model.spec.vocab, (length,), generator=torch.Generator().manual_seed(seed))


def pieces(ids: Tensor, cut: list[int]) -> Iterator[Tensor]:
    bounds = [0, *cut, len(ids)]
    return (ids[a:b] for a, b in pairwise(bounds))


def run(model: LanguageModel, parts: Iterator[Tensor], state: BatchState) -> Tensor:
    return torch.cat([model.forward(part[None], state=state)[0] for part in parts])


def agree(found: Tensor, expected: Tensor, model: LanguageModel) -> None:
    chooses = model.network.dtype == torch.bfloat16 and any(isinstance(b.ffn, Moe) for b in model.spec.blocks)
    assert error(found, expected) <= (RELATIVE_LOGITS_EXPERTS if chooses else RELATIVE_LOGITS[model.network.dtype])


def error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


def same(one: BatchState, other: BatchState) -> bool:
    """Bit for bit, in every slot of every row."""
    if one.lengths != other.lengths:
        return False
    for a, b in zip(one.sequences, other.sequences, strict=True):
        for x, y in zip(a.layers, b.layers, strict=True):
            held = x.recurrent | (x.kv.tensors() if x.kv else {})
            second = y.recurrent | (y.kv.tensors() if y.kv else {})
            if held.keys() != second.keys():
                return False
            # fp8 knows no comparison; its bytes do.
            if not all(torch.equal(_bytes(t), _bytes(second[name])) for name, t in held.items()):
                return False
    return True


def _bytes(t: Tensor) -> Tensor:
    return torch.view_as_real(t) if t.is_complex() else t.contiguous().view(torch.uint8)


@pytest.mark.parametrize("seed", SEEDS)
def test_any_split_gives_the_same(family: str, dtype: str, seed: int) -> None:
    """Oracle: the whole sequence in one pass; splits drawn at random, and token by token, with one seed all the way."""
    model = build(family, seed, dtype)
    ids = prompt(model)
    whole = model.forward(ids[None])[0]
    singly = range(1, LENGTH) if seed == SEEDS[0] else [1, 2, *range(PAGE_TOKENS - 8, LENGTH)]
    agree(run(model, pieces(ids, [*singly]), model.new_state()), whole, model)

    @properties
    @given(cuts)
    def check(cut: list[int]) -> None:
        agree(run(model, pieces(ids, cut), model.new_state()), whole, model)

    check()


@pytest.mark.parametrize("kv_dtype", KV_DTYPES)
def test_splits_agree_for_every_kv_dtype(family: str, kv_dtype: str) -> None:
    """Oracle: one pass with keys and values rounded in the same way, since they are rounded before any use."""
    model = build(family, 0, "float32")
    ids = prompt(model)
    whole = run(model, iter([ids]), model.new_state(kv_dtype=kv_dtype))
    found = run(model, pieces(ids, [1, 2, 66, 140]), model.new_state(kv_dtype=kv_dtype))
    assert error(found, whole) <= RELATIVE_LOGITS_STORED[kv_dtype]


def test_ragged_batch_is_each_row_alone(family: str, dtype: str) -> None:
    """Oracle: each row alone, logits and state; rows of many lengths, some without new tokens."""
    model = build(family, 0, dtype)

    @properties
    @given(st.lists(st.sampled_from([0, 1, 2, 3, 17, 63, 65, 130]), min_size=1, max_size=4).filter(any))
    def check(lengths: list[int]) -> None:
        rows = [prompt(model, n, seed) for seed, n in enumerate(lengths)]
        state = model.new_state(len(rows))
        first = model.forward([row[: n // 2 + 1] for row, n in zip(rows, lengths, strict=True)], state=state)
        rest = [row[n // 2 + 1 :] for row, n in zip(rows, lengths, strict=True)]
        second = model.forward(rest, state=state) if any(map(len, rest)) else [r[:0] for r in first]
        for index, row in enumerate(rows):
            if not len(row):
                continue
            alone = model.new_state()
            expected = model.forward(row[None], state=alone)[0]
            agree(torch.cat([first[index], second[index]]), expected, model)
            # The states go on to give the same logits.
            token = torch.tensor([[1]])
            expected = model.forward(token, state=alone)[0]
            agree(model.forward(token, state=state.select([index]))[0], expected, model)

    check()


def test_fork_is_independent(family: str) -> None:
    """Oracle: a state that was never forked; the fork and the original go different ways."""
    model = build(family, 1, "float32")
    ids, other = prompt(model), prompt(model, 40, seed=9)
    state = model.new_state()
    model.forward(ids[None, :100], state=state)
    fork = state.fork()
    model.forward(other[None], state=fork)
    assert state.lengths == (100,)
    assert fork.lengths == (140,)
    expected = model.forward(ids[None])[0, 100:]
    agree(model.forward(ids[None, 100:], state=state)[0], expected, model)


def test_rows_move_between_batches(family: str) -> None:
    """Oracle: rows alone; taken, appended, restored and reset rows go on as if nothing had happened."""
    model = build(family, 0, "float32")
    a, b = prompt(model, 30, 1), prompt(model, 47, 2)
    state = model.new_state(2)
    model.forward([a, b], state=state)
    swapped = state.select([1, 0])
    swapped.append(model.new_state(1))
    swapped.restore(2, state.fork(0))
    assert swapped.lengths == (47, 30, 30)
    swapped.reset(0)
    assert swapped.lengths == (0, 30, 30)
    found = model.forward([a, b[:1], b[:1]], state=swapped)
    agree(found[0], model.forward(a[None])[0], model)
    expected = model.forward(torch.cat([a, b[:1]])[None])[0, -1:]
    agree(found[1], expected, model)
    agree(found[2], expected, model)


@pytest.mark.parametrize("kv_dtype", KV_DTYPES)
def test_save_and_load_round_trip(family: str, kv_dtype: str, tmp_path: Path) -> None:
    """Oracle: the state that was saved, bit for bit, and its next logits."""
    model = build(family, 0, "float32")
    state = model.new_state(3, kv_dtype)
    model.forward([prompt(model, 140), prompt(model, 1), prompt(model, 0)], state=state)
    state.save(tmp_path / "state")
    again = model.load_state(tmp_path / "state", kv_dtype)
    assert same(state, again)
    tokens = torch.tensor([[1], [2], [3]])
    assert torch.equal(model.forward(tokens, state=state), model.forward(tokens, state=again))


def test_damaged_files_are_refused(family: str, tmp_path: Path) -> None:
    """Oracle: a state file cut anywhere, foreign, or of another precision never loads."""
    model = build(family, 0, "float32")
    state = model.new_state()
    model.forward(prompt(model, 20)[None], state=state)
    path = tmp_path / "state"
    state.save(path)
    whole = path.read_bytes()
    for cut in (0, 7, len(whole) // 3, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(StateError, match="state"):
            model.load_state(path)
    path.write_bytes(whole)
    with pytest.raises(StateError, match="another model"):
        build(family, 0, "bfloat16").load_state(path)
    with pytest.raises(StateError, match="no state file"):
        model.load_state(tmp_path / "nothing")


@pytest.mark.parametrize("kv_dtype", KV_DTYPES)
def test_bytes_are_what_the_plan_says(family: str, dtype: str, kv_dtype: str) -> None:
    """Oracle: `spec.state_bytes`, before and after any number of tokens, and the memory really reachable."""
    model = build(family, 0, dtype)
    state = model.new_state(kv_dtype=kv_dtype)
    for more in (0, 1, 62, 1, 64, 1, 300):
        if more:
            model.forward(prompt(model, more)[None], state=state)
        planned = model.spec.state_bytes(state.lengths[0], dtype=dtype, kv_dtype=kv_dtype)
        assert state.nbytes == planned
        assert reachable(state) <= planned


def reachable(state: BatchState) -> int:
    """Bytes of all distinct storages that the rows of a state keep alive."""
    storages: dict[int, int] = {}
    for row in state.sequences:
        for layer in row.layers:
            tensors = list(layer.recurrent.values())
            for page in layer.kv.pages if layer.kv else ():
                tensors += [t for stored in (page.k, page.v) for t in stored if t is not None]
            for tensor in tensors:
                storage = tensor.untyped_storage()
                storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def test_there_is_no_way_back(family: str) -> None:
    """Oracle: the design: a recurrence cannot be rewound, so no state can be trimmed."""
    state = build(family, 0, "float32").new_state()
    assert not any(hasattr(state, name) for name in ("trim", "truncate", "rewind", "crop"))


def test_states_inside_a_pass(family: str, dtype: str) -> None:
    """Oracle: states of runs that stop there; they go on to the same logits."""
    model = build(family, 0, dtype)
    rows, marks = [prompt(model, 90, 1), prompt(model, 33, 2)], [[1, 64, 90], [7]]
    out = model.forward(rows, state=model.new_state(2), state_at=marks)
    plain = model.forward(rows, state=model.new_state(2))
    for found, expected in zip(out.logits, plain, strict=True):
        agree(found, expected, model)
    for row, positions, states in zip(rows, marks, out.states, strict=True):
        assert states.lengths == tuple(positions)
        for index, position in enumerate(positions):
            alone = model.new_state()
            model.forward(row[None, :position], state=alone)
            token = torch.tensor([[2]])
            expected = model.forward(token, state=alone)[0]
            agree(model.forward(token, state=states.select([index]))[0], expected, model)


def test_gradients_flow_through_a_carried_state(family: str) -> None:
    """Oracle: the gradient of the same loss when the whole sequence is run in one pass."""
    model = braidlm.build(tiny(family, 0), dtype="float64").network.requires_grad_()
    ids = torch.randint(model.spec.vocab, (20,), generator=torch.Generator().manual_seed(1))
    segments = Segments

    def loss(split: list[int]) -> Tensor:
        state, total = model.new_state(1), torch.zeros((), dtype=torch.float64)
        for part in ids.split(split):
            out = model(part, segments((len(part),)), state)
            state, total = out.state, total + out.logits.square().sum()
        return total

    whole = torch.autograd.grad(loss([20]), model.parameters())
    for found, expected in zip(torch.autograd.grad(loss([7, 13]), model.parameters()), whole, strict=True):
        assert (found - expected).abs().max() <= RELATIVE_GRADIENT * expected.abs().max().clamp_min(1)
