"""Keys and values in pages: any way to append, what is held and what is let go, storage formats, sharing."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from braidlm.ops import Segments
from braidlm.spec.state import PAGE_TOKENS, FullKV, WindowKV
from braidlm.state.kv import KV_DTYPES, KeyValues, KvBatch, Page, QuantizedKV, dequantize_kv, quantize_kv
from tests.tolerances import RELATIVE_STORED

# Numbers of 1e-3 are below the normal ones of fp8: see test_rounding_of_small_numbers.
FORMATS_AT_SCALES = [(f, s) for f in RELATIVE_STORED for s in (1e-3, 1.0, 30.0) if (f, s) != ("fp8", 1e-3)]
HEADS, K_DIM, V_DIM = 2, 3, 5
SIZES = {"heads": HEADS, "k_dim": K_DIM, "v_dim": V_DIM}
LONGEST = 700
RINGS = [(1, 0), (2, 0), (5, 3), (127, 0), (128, 1), (129, 0), (150, 128), (130, 129), (300, 260), (1, 700), (1000, 0)]
SLOTS = [FullKV(**SIZES), *(WindowKV(**SIZES, window=window, sink_tokens=sink_tokens) for window, sink_tokens in RINGS)]

properties = settings(max_examples=25, deadline=None, derandomize=True)
slots = st.sampled_from(SLOTS)
# Lengths near the ends of pages are where mistakes would be.
edges = [page * PAGE_TOKENS + off for page in range(6) for off in (-1, 0, 1, 2)]
lengths = st.one_of(st.integers(0, LONGEST), st.sampled_from(edges[1:]))
cuts = st.lists(st.one_of(st.integers(0, LONGEST), st.sampled_from(edges[1:])), max_size=6)


def numbers(length: int = LONGEST, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(length, HEADS, size, generator=generator) for size in (K_DIM, V_DIM))


KEYS, VALUES = numbers()


def appended(kv: KeyValues, begin: int, end: int, k: Tensor = KEYS, v: Tensor = VALUES) -> KeyValues:
    """`kv` with positions `begin` to `end` of the numbers."""
    return kv.append(quantize_kv(k[begin:end], kv.kv_dtype), quantize_kv(v[begin:end], kv.kv_dtype))


def once(slot: FullKV | WindowKV, kv_dtype: str, length: int) -> KeyValues:
    return appended(KeyValues(slot, kv_dtype), 0, length)


def in_parts(slot: FullKV | WindowKV, kv_dtype: str, length: int, at: list[int]) -> KeyValues:
    kv = KeyValues(slot, kv_dtype)
    for begin, end in pairwise([0, *sorted(min(cut, length) for cut in at), length]):
        kv = appended(kv, begin, end)
    return kv


def bits(stored: QuantizedKV) -> tuple[Any, ...]:
    """Dtype, shape and bytes: fp8 knows no comparison."""
    return tuple(
        None if t is None else (t.dtype, t.shape, t.contiguous().view(torch.uint8).numpy().tobytes()) for t in stored
    )


def content(kv: KeyValues) -> tuple[Any, ...]:
    return kv.length, [(page.start, bits(page.k), bits(page.v)) for page in kv.pages]


def positions(kv: KeyValues) -> list[int]:
    """The positions held, by the pages' own starts and sizes."""
    return [page.start + i for page in kv.pages for i in range(page.k.data.shape[0])]


def visible(slot: FullKV | WindowKV, length: int) -> set[int]:
    """Positions that some query from `length` on can see, query by query, up to the first query's own."""
    queries = range(length, length + 3)
    if isinstance(slot, FullKV):
        return set(range(length + 1))
    return {
        at for at in range(length + 1) if at < slot.sink_tokens or any(at > query - slot.window for query in queries)
    }


# --- any way to append ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kv_dtype", KV_DTYPES)
def test_any_split_holds_the_same(kv_dtype: str) -> None:
    """Oracle: everything appended at once, bit for bit, page for page."""

    @properties
    @given(slots, lengths, cuts)
    def check(slot: FullKV | WindowKV, length: int, at: list[int]) -> None:
        assert content(in_parts(slot, kv_dtype, length, at)) == content(once(slot, kv_dtype, length))

    check()


@pytest.mark.parametrize("slot", SLOTS, ids=str)
def test_one_by_one_holds_the_same(slot: FullKV | WindowKV) -> None:
    """Oracle: everything appended at once, at each length up to the third page."""
    kv = KeyValues(slot, "float32")
    for length in range(300):
        assert content(kv) == content(once(slot, "float32", length))
        kv = appended(kv, length, length + 1)


def test_nothing_appended_is_nothing_changed() -> None:
    """Oracle: identity."""
    for slot in SLOTS:
        for length in (0, 1, 128, 200):
            kv = once(slot, "float32", length)
            assert appended(kv, length, length) is kv


# --- what is held ----------------------------------------------------------------------------------------------


@properties
@given(slots, lengths, cuts)
def test_pages_are_those_that_the_slot_says(slot: FullKV | WindowKV, length: int, at: list[int]) -> None:
    """Oracle: `slots`, by which memory is planned: number of positions, the first one, and bytes."""
    for kv_dtype in KV_DTYPES:
        kv = in_parts(slot, kv_dtype, length, at)
        held = positions(kv)
        assert len(held) == slot.kept(length)
        assert held == sorted(set(held))
        assert all(
            position < slot.sink_tokens + PAGE_TOKENS or position >= slot.first_kept(length) for position in held
        )
        assert all(page.start % PAGE_TOKENS == 0 for page in kv.pages)
        assert kv.nbytes == slot.nbytes(length, "float32", kv_dtype)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.one_of(
        slots,
        st.builds(lambda w, p: WindowKV(**SIZES, window=w, sink_tokens=p), st.integers(1, 400), st.integers(0, 400)),
    ),
    lengths,
)
def test_exactly_the_pages_that_can_be_seen_are_held(slot: FullKV | WindowKV, length: int) -> None:
    """Oracle: the definition of a window, query by query: whole pages of which something can still be seen."""
    seen = visible(slot, length)
    starts = {at // PAGE_TOKENS * PAGE_TOKENS for at in seen}
    held = positions(once(slot, "float32", length))
    assert held == [at for at in range(length) if at // PAGE_TOKENS * PAGE_TOKENS in starts]
    assert seen - {length} <= set(held)


@properties
@given(slots, lengths, cuts)
def test_past_gives_keys_and_values_of_each_position(slot: FullKV | WindowKV, length: int, at: list[int]) -> None:
    """Oracle: the numbers that were appended, at the positions that are held."""
    kv = in_parts(slot, "float32", length, at)
    past, held = kv.past(torch.float64), positions(kv)
    if past is None:
        assert held == []
        return
    assert past.positions_S.tolist() == held
    assert past.k_SGK.dtype == past.v_SGV.dtype == torch.float64
    assert torch.equal(past.k_SGK, KEYS[held].double())
    assert torch.equal(past.v_SGV, VALUES[held].double())


# --- storage formats -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kv_dtype", "scale"), FORMATS_AT_SCALES)
def test_rounding(kv_dtype: str, scale: float) -> None:
    """Oracle: the numbers themselves; errors relative to the largest one of a head at a position."""
    x = KEYS * scale
    error = (dequantize_kv(quantize_kv(x, kv_dtype), torch.float64) - x.double()).abs().amax(-1)
    assert (error <= RELATIVE_STORED[kv_dtype] * x.double().abs().amax(-1)).all()
    assert kv_dtype == "float32" or error.max() > 0


def test_rounding_of_small_numbers() -> None:
    """Oracle: the definition of e4m3: below 2^-6 its steps are 2^-9, of which rounding costs half a one."""
    x = KEYS.clamp(-1, 1) / 64
    assert ((dequantize_kv(quantize_kv(x, "fp8"), torch.float64) - x.double()).abs() <= 2**-10).all()


def test_rounding_of_exact_numbers() -> None:
    """Oracle: the numbers themselves: zeros, and whole steps of int8, survive every format."""
    zeros = torch.zeros(4, HEADS, K_DIM)
    steps = torch.tensor([[[127.0, -127.0, 64.0], [2.0, 1.0, -127.0]]])
    for kv_dtype in KV_DTYPES:
        assert torch.equal(dequantize_kv(quantize_kv(zeros, kv_dtype), torch.float32), zeros)
    for kv_dtype in ("float64", "float32", "bfloat16", "float16", "int8"):
        assert torch.equal(dequantize_kv(quantize_kv(steps, kv_dtype), torch.float32), steps)
    assert torch.equal(dequantize_kv(quantize_kv(KEYS.double(), "float64"), torch.float64), KEYS.double())


@pytest.mark.parametrize(("kv_dtype", "largest"), [("fp8", 448.0), ("float16", 65504.0)])
def test_small_ranges_saturate(kv_dtype: str, largest: float) -> None:
    """Oracle: the largest number of the format by its definition; no infinity, and no nan."""
    x = torch.tensor([[[1e6, -1e5, largest]]])
    assert dequantize_kv(quantize_kv(x, kv_dtype), torch.float32).tolist() == [[[largest, -largest, largest]]]


def test_int8_has_a_scale_for_each_head_and_token() -> None:
    """Oracle: the definition: the largest number of each becomes 127, others are not disturbed by it."""
    stored = quantize_kv(KEYS * torch.logspace(-6, 6, LONGEST)[:, None, None], "int8")
    assert stored.scale is not None
    assert stored.scale.shape == (LONGEST, HEADS)
    assert (stored.data.abs().amax(-1) == 127).all()
    assert stored.nbytes() == LONGEST * HEADS * (K_DIM + 4)


# --- sharing ---------------------------------------------------------------------------------------------------


@properties
@given(slots, lengths, st.integers(1, 300), st.integers(1, 300), st.sampled_from(KV_DTYPES))
def test_forks_share_pages(slot: FullKV | WindowKV, length: int, one: int, other: int, kv_dtype: str) -> None:
    """Oracle: identity of every full page that both still hold; a fork never changes what it came from."""
    base = once(slot, kv_dtype, length)
    before, pages = content(base), base.pages
    k, v = numbers(300, seed=1)
    left, right = appended(base, 0, one, k, v), appended(base, 0, other)
    full = {page.start: page for page in pages if page.start + PAGE_TOKENS <= length}
    for fork in (left, right):
        assert all(full[page.start] is page for page in fork.pages if page.start in full)
        assert not any(page is old for page in fork.pages for old in pages if old.start not in full)
    assert content(base) == before
    assert all(page is old for page, old in zip(base.pages, pages, strict=True))


def tensors_of(page: Page) -> Iterator[Tensor]:
    return (tensor for stored in (page.k, page.v) for tensor in stored if tensor is not None)


@pytest.mark.parametrize("kv_dtype", KV_DTYPES)
def test_pages_own_their_memory(kv_dtype: str) -> None:
    """Oracle: the sizes of storages, and a prompt that is overwritten afterwards."""
    k, v = (quantize_kv(x.clone(), kv_dtype) for x in (KEYS, VALUES))
    kv = KeyValues(FullKV(**SIZES), kv_dtype).append(k, v)
    before = content(kv)
    for tensor in (*k, *v):
        if tensor is not None:
            tensor.view(torch.uint8).zero_()
    assert content(kv) == before
    for page in kv.pages:
        for tensor in tensors_of(page):
            assert tensor.untyped_storage().nbytes() == tensor.nbytes


def test_past_is_a_copy() -> None:
    """Oracle: what is held, after the past was overwritten."""
    kv = once(FullKV(**SIZES), "float32", 100)
    before, past = content(kv), kv.past(torch.float32)
    assert past is not None
    past.k_SGK.zero_()
    past.v_SGV.zero_()
    assert content(kv) == before


# --- saving ----------------------------------------------------------------------------------------------------


@properties
@given(slots, lengths, cuts, st.sampled_from(KV_DTYPES))
def test_tensors_round_trip(slot: FullKV | WindowKV, length: int, at: list[int], kv_dtype: str) -> None:
    """Oracle: what was saved, bit for bit and page for page; and it goes on in the same way."""
    kv = in_parts(slot, kv_dtype, length, at)
    tensors = kv.tensors()
    if not tensors:
        assert slot.kept(length) == 0
        return
    again = KeyValues(slot, kv_dtype).from_tensors(tensors, length)
    assert content(again) == content(kv)
    assert content(appended(again, 0, 130)) == content(appended(kv, 0, 130))
    names = {"k", "v", "k_scale", "v_scale"} if kv_dtype == "int8" else {"k", "v"}
    assert tensors.keys() == names
    assert all(tensor.shape[:2] == (slot.kept(length), HEADS) for tensor in tensors.values())


@pytest.mark.parametrize("slot", SLOTS, ids=str)
def test_wrong_sizes_are_refused(slot: FullKV | WindowKV) -> None:
    """Oracle: the number of positions that belongs there, in the message."""
    kv = once(slot, "int8", 500)
    tensors, empty = kv.tensors(), KeyValues(slot, "int8")
    for more in (-1, 1, 128):
        wrong = {name: tensor.repeat(2, *[1] * (tensor.dim() - 1)) for name, tensor in tensors.items()}
        wrong = {name: tensor[: slot.kept(500) + more] for name, tensor in wrong.items()}
        with pytest.raises(ValueError, match=rf"{len(wrong['k'])}.*where {slot.kept(500)} positions belong"):
            empty.from_tensors(wrong, 500)
    for name in ("k", "v"):
        with pytest.raises(ValueError, match=f"belong.*{name}"):
            empty.from_tensors({other: tensor for other, tensor in tensors.items() if other != name}, 500)


def test_nothing_to_save() -> None:
    """Oracle: emptiness."""
    for slot in SLOTS:
        empty = KeyValues(slot, "float32")
        assert empty.tensors() == {}
        assert empty.from_tensors({}, 0) is empty
        assert empty.past(torch.float32) is None
        assert empty.nbytes == 0


# --- batches ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kv_dtype", KV_DTYPES)
def test_a_batch_is_each_row_alone(kv_dtype: str) -> None:
    """Oracle: each row on its own, at each of its marks and at its end; new tokens as the pages will hold them."""

    @properties
    @given(slots, lengths, st.lists(st.integers(0, 140), min_size=1, max_size=3))
    def check(slot: FullKV | WindowKV, length: int, sizes: list[int]) -> None:
        pasts = tuple(once(slot, kv_dtype, length // (row + 1)) for row in range(len(sizes)))
        marks = tuple(tuple(sorted({1, size // 2, size} & set(range(1, size + 1)))) for size in sizes)
        segments = Segments(tuple(sizes), marks)
        total = sum(sizes)
        batch = KvBatch(pasts).append(KEYS[:total], VALUES[:total])
        for found, given_ in zip(batch.new(torch.float32), (KEYS, VALUES), strict=True):
            assert torch.equal(found, dequantize_kv(quantize_kv(given_[:total], kv_dtype), torch.float32))
        begin = 0
        for row, size in enumerate(sizes):
            expected = [appended(pasts[row], begin, begin + mark) for mark in (*marks[row], size)]
            assert list(map(content, batch.after(row, segments))) == list(map(content, expected))
            begin += size

    check()
