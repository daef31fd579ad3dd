"""Native norms, at every instruction-set level."""

from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from braidlm import ops
from braidlm.ops import dispatch
from tests.ops.carried import close, randn
from tests.ops.levels import LEVELS, at_level
from tests.tolerances import RELATIVE_OP, RELATIVE_ROUNDED

SHAPES = [(1, 2), (3, 14), (2, 16), (67, 66), (2, 3, 130)]


@pytest.fixture(params=LEVELS)
def level(request: pytest.FixtureRequest) -> Iterator[str]:
    with at_level(request.param):
        yield request.param


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("groups", [1, 2])
def test_gated(shape: tuple[int, ...], dtype: torch.dtype, groups: int, level: str) -> None:
    """Oracle: the formula in float64; gates far to both sides, where their exponentials overflow and vanish."""
    y, gate, weight = randn(*shape).float(), (40 * randn(*shape)).to(dtype), randn(shape[-1]).float()
    parts = (y.double() * F.silu(gate.double())).unflatten(-1, (groups, -1))
    expected = (parts / (parts.square().mean(-1, keepdim=True) + 1e-5).sqrt()).flatten(-2) * weight.double()
    found = ops.gated_rms_norm(y, gate, weight, 1e-5, groups=groups, dtype=dtype)
    assert found.dtype == dtype
    assert close(found.double(), expected, RELATIVE_OP[dtype] if dtype in RELATIVE_OP else RELATIVE_ROUNDED[dtype])


def norm(gated: bool, form: float, dtype: torch.dtype) -> Callable[..., Tensor]:
    """One of the norms with a large eps, as a function of its tensors; `form`: groups, or eps outside the root."""
    if gated:
        return lambda y, gate, weight: ops.gated_rms_norm(y, gate, weight, 0.1, groups=int(form), dtype=dtype)
    return lambda x, weight: ops.rms_norm(x, weight, 0.1, eps_outside_root=bool(form), dtype=dtype)


def gradients(function: Callable[..., Tensor], tensors: list[Tensor], implementation: str) -> list[Tensor]:
    """Gradients of a random weighting of the outputs."""
    leaves = [t.clone().requires_grad_() for t in tensors]
    with dispatch.using(implementation):
        out = function(*leaves)
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return list(torch.autograd.grad(out, leaves, weights.to(out.dtype)))


FORMS = [(False, 0), (False, 1), (True, 1), (True, 2)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("gated", "form"), FORMS)
def test_gradients(shape: tuple[int, ...], gated: bool, form: int, level: str) -> None:
    """Oracle: the reference's gradients in float64; rows of zeros, gates far to both sides."""
    x, gate, weight = randn(*shape), 10 * randn(*shape), randn(shape[-1])
    x[0] *= len(shape) - 2
    tensors = [x, gate, weight] if gated else [x, weight]
    expected = gradients(norm(gated, form, torch.float64), tensors, "reference")
    found = gradients(norm(gated, form, torch.float32), [t.float() for t in tensors], "native")
    for actual, wanted in zip(found, expected, strict=True):
        assert close(actual.double(), wanted, RELATIVE_OP[torch.float32])


@pytest.mark.parametrize("narrow", range(8))
def test_gradients_have_their_inputs_dtype(narrow: int, level: str) -> None:
    """Oracle: the reference's gradients in float64 of the same rounded numbers, in every mixture of dtypes."""
    dtypes = [torch.bfloat16 if narrow >> i & 1 else torch.float32 for i in range(3)]
    tensors = [randn(5, 34).to(dtypes[0]), randn(5, 34).to(dtypes[1]), randn(34).to(dtypes[2])]
    for gated, form in FORMS:
        given = tensors if gated else [tensors[0], tensors[2]]
        found = gradients(norm(gated, form, dtypes[1]), given, "native")
        expected = gradients(norm(gated, form, torch.float64), [t.double() for t in given], "reference")
        for actual, wanted, of in zip(found, expected, given, strict=True):
            assert actual.dtype == of.dtype
            assert close(actual.double(), wanted, RELATIVE_ROUNDED[torch.bfloat16])


@pytest.mark.parametrize(("gated", "form"), FORMS)
def test_gradients_do_not_depend_on_the_number_of_threads(gated: bool, form: int, level: str) -> None:
    """Oracle: the same gradients with one thread, bit for bit."""
    tensors = [t.float() for t in ((randn(300, 34), randn(300, 34)) if gated else (randn(300, 34),))]
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(gradients(norm(gated, form, torch.float32), [*tensors, torch.ones(34)], "native"))
    finally:
        torch.set_num_threads(before)
    for result in results[1:]:
        assert all(torch.equal(actual, wanted) for actual, wanted in zip(result, results[0], strict=True))


def test_gradients_of_slices(level: str) -> None:
    """Oracle: the same gradients of contiguous tensors; a weighting without strides of its own, as sums give."""
    wide, weight = torch.randn(7, 90), torch.randn(34)
    parts = [t.requires_grad_() for t in (wide[:, 3:37], wide[:, 40:74], weight)]
    found = torch.autograd.grad(norm(True, 2, torch.float32)(*parts).sum(), parts)
    whole = [t.detach().contiguous().requires_grad_() for t in parts]
    expected = torch.autograd.grad(norm(True, 2, torch.float32)(*whole).sum(), whole)
    assert all(torch.equal(actual, wanted) for actual, wanted in zip(found, expected, strict=True))
