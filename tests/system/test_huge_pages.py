"""Memory in huge pages."""

import gc

import pytest
import torch

from braidlm.system import huge_pages
from braidlm.system.huge_pages import HugePages, in_huge_pages, offered
from braidlm.system.memory import without_huge_pages

made = pytest.mark.skipif(not offered(), reason="the system makes no huge pages")


@made
def test_tensors_lie_apart() -> None:
    """Oracle: each tensor keeps the numbers that it was filled with, whatever its neighbours are given."""
    memory = HugePages()
    shapes = [torch.Size(shape) for shape in ((3,), (5, 7), (0, 4), (9 << 20,), ())]
    tensors = [memory.empty(shape, dtype) for shape in shapes for dtype in (torch.float32, torch.bfloat16)]
    for number, tensor in enumerate(tensors):
        tensor.fill_(number)
    assert all(bool((tensor == number).all()) for number, tensor in enumerate(tensors))
    assert all(in_huge_pages(tensor) for tensor in tensors if tensor.numel())
    assert [tensor.shape for tensor in tensors[::2]] == shapes


@made
def test_memory_is_given_back() -> None:
    """Oracle: the list of memory in use, as it was before."""
    gc.collect()  # of what other tests have left
    before = list(huge_pages._live)
    tensor = HugePages().empty(torch.Size((10,)), torch.float32)
    assert len(huge_pages._live) == len(before) + 1
    del tensor
    gc.collect()
    assert huge_pages._live == before


def test_plain_memory_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: what the environment says."""
    monkeypatch.setenv("BRAIDLM_HUGE_PAGES", "0")
    tensor = HugePages().empty(torch.Size((10, 2)), torch.float32)
    assert tensor.shape == (10, 2)
    assert not in_huge_pages(tensor)


@made
def test_plain_memory_in_a_context() -> None:
    """Oracle: where tensors lie that are made in the context, and after it."""
    with without_huge_pages(True):
        assert not in_huge_pages(HugePages().empty(torch.Size((10, 2)), torch.float32))
        with without_huge_pages(False):
            assert offered()
    assert in_huge_pages(HugePages().empty(torch.Size((10, 2)), torch.float32))
