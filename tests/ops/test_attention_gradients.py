"""Gradients of attention: the native implementation at every level, and how much memory recording takes."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from braidlm.ops import Visible
from tests.ops.carried import close
from tests.ops.levels import LEVELS, at_level
from tests.ops.packed import SCALE, Heads, Packed
from tests.ops.sliced_heads import sliced
from tests.tolerances import RELATIVE_OP, RELATIVE_ROUNDED


@pytest.fixture(params=LEVELS)
def level(request: pytest.FixtureRequest) -> Iterator[str]:
    with at_level(request.param):
        yield request.param


def check(packed: Packed, dtype: torch.dtype) -> None:
    narrow = [t.to(dtype) for t in packed.tensors]
    found = packed.gradients(narrow, "native")
    expected = packed.gradients([t.double() for t in narrow], "reference")
    # Narrow outputs, and the gradients that come to them, are rounded too; so are weights.
    tolerance = RELATIVE_OP[dtype] if dtype in RELATIVE_OP else 3 * RELATIVE_ROUNDED[dtype]
    assert all(
        actual.dtype == dtype and actual.shape == wanted.shape for actual, wanted in zip(found, expected, strict=True)
    )
    # Together: the gradients of scores are differences of numbers as large as the gradients of values, so
    # where a query sees one key alone, what is left of them is rounding.
    assert close(*(torch.cat([t.double().flatten() for t in of]) for of in (found, expected)), tolerance)


@pytest.mark.parametrize("heads", [(1, 1, 1, 1), (6, 2, 9, 33), (20, 1, 7, 5)])
@pytest.mark.parametrize("visible", [Visible(None, 0), Visible(1, 0), Visible(20, 3), Visible(90, 0), Visible(1000, 5)])
@pytest.mark.parametrize(("held", "length"), [(0, 1), (0, 2), (0, 63), (0, 64), (0, 65), (0, 130), (70, 3), (1, 100)])
def test_gradients(held: int, length: int, visible: Visible, heads: Heads, level: str) -> None:
    """Oracle: the reference's gradients in float64; windows below and above blocks, pasts with a gap."""
    check(Packed((length,), (held,), visible, heads), torch.float32)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("visible", [Visible(None, 0), Visible(30, 2), Visible(280, 0)])
def test_gradients_of_packed_rows(visible: Visible, dtype: torch.dtype, level: str) -> None:
    """Oracle: the reference's gradients in float64 of the same rounded numbers, past keys and values included."""
    check(Packed((300, 0, 1, 65, 65), (0, 5, 40, 270, 0), visible, (5, 5, 32, 64)), dtype)
    check(Packed((70, 2), (0, 0), visible, (4, 2, 5, 3)), dtype)


def test_slices_and_one_gradient_alone(level: str) -> None:
    """Oracle: the same gradient where every tensor has one and its numbers lie together."""
    packed = Packed((70, 9), (12, 0), Visible(20, 1), (4, 2, 6, 5))
    tensors = [t.float() for t in packed.tensors]
    together = packed.gradients(tensors, "native")
    drawn = torch.randn(79, 4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64).float()
    for i, t in enumerate(tensors):
        slices = [sliced(other) for other in tensors]
        leaf = slices[i].requires_grad_()
        packed.outputs(slices, "native").backward(sliced(drawn))
        assert leaf.grad is not None and t.shape == leaf.grad.shape
        assert torch.equal(leaf.grad, together[i])


def test_gradients_do_not_depend_on_the_number_of_threads(level: str) -> None:
    """Oracle: the same gradients with one thread, bit for bit."""
    packed = Packed((300, 1, 70), (0, 40, 3), Visible(50, 2), (6, 2, 8, 8))
    tensors, before, results = [t.float() for t in packed.tensors], torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(packed.gradients(tensors, "native"))
    finally:
        torch.set_num_threads(before)
    for result in results[1:]:
        assert all(torch.equal(actual, wanted) for actual, wanted in zip(result, results[0], strict=True))


@pytest.mark.parametrize("scale", [1e-3, 60.0])
def test_flat_and_steep_weights(scale: float, level: str) -> None:
    """Oracle: the reference's gradients in float64 where all weights are nearly equal, and where one is nearly all."""
    packed = Packed((130,), (0,), Visible(None, 0), (2, 1, 8, 8))
    packed.tensors[0] *= scale / SCALE
    check(packed, torch.float32)


def saved_bytes(length: int, visible: Visible) -> int:
    """What autograd keeps of one call, each memory counted once."""
    kept: dict[int, int] = {}

    def keep(t: Tensor) -> Tensor:
        kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    packed = Packed((length,), (0,), visible, (2, 1, 8, 8))
    leaves = [t.float().requires_grad_() for t in packed.tensors]
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        packed.outputs(leaves, "native")
    return sum(kept.values())


@pytest.mark.parametrize("visible", [Visible(None, 0), Visible(64, 0)])
def test_memory_is_linear_in_the_length(visible: Visible) -> None:
    """Oracle: inputs, outputs and one number a head and query, counted by hand."""
    for length in (100, 1600):
        assert saved_bytes(length, visible) == 4 * length * (2 * 8 + 8 + 8 + 2 * 8 + 2)
