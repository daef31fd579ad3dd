"""Gradients of the native implementations, at every level."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from braidlm import ops
from braidlm.ops import Segments, dispatch
from tests.ops import definitions
from tests.ops.carried import Case, cast, close, randn, states
from tests.ops.levels import LEVELS, at_level
from tests.ops.native_cases import CASES, sliced
from tests.tolerances import RELATIVE_FFT, RELATIVE_LONG, RELATIVE_OP, RELATIVE_ROUNDED

DIFFERENTIABLE = [name for name in CASES if name.startswith(("conv", "scan", "ssd", "gated conv"))]


@pytest.fixture(params=LEVELS)
def level(request: pytest.FixtureRequest) -> Iterator[str]:
    with at_level(request.param):
        yield request.param


def arguments(case: Case, tensors: list[Tensor]) -> list[Tensor | None]:
    """The operation's tensors, with None for the weights that this case has not."""
    packed = len(case.inputs(1))
    weights = iter(tensors[packed:])
    return [*tensors[:packed], *(t if t is None else next(weights) for t in case.fixed), tensors[-1]]


def parts(t: Tensor) -> Tensor:
    """In float64, complex numbers as pairs."""
    return (torch.view_as_real(t) if t.is_complex() else t).double()


def gradients(case: Case, tensors: list[Tensor], segments: Segments, implementation: str) -> list[Tensor]:
    """Gradients of a random weighting of outputs, final and snapshot states, for every input."""
    leaves = [t.clone().requires_grad_() for t in tensors]
    with dispatch.using(implementation):
        y, after, snapshots = case.call(*arguments(case, leaves), segments)
    generator = torch.Generator().manual_seed(1)
    made = [parts(t) for t in (y, after, *(at for of_row in snapshots for at in of_row))]
    drawn = [torch.randn(t.shape, generator=generator, dtype=torch.float64) for t in made]
    loss = sum((t * w).sum() for t, w in zip(made, drawn, strict=True))
    return list(torch.autograd.grad(loss, leaves))


def tensors_of(case: Case, total: int, rows: int) -> list[Tensor]:
    return [*case.inputs(total), *(t for t in case.fixed if t is not None), states(case, rows)]


@pytest.mark.parametrize("lengths", [(1,), (2,), (5,), (64,), (65,), (129,), (150,), (9, 9), (0, 70, 2, 70, 1)])
@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients(name: str, lengths: tuple[int, ...], level: str) -> None:
    """Oracle: the reference's gradients in float64, through inputs, weights, initial, final and snapshot states."""
    case, segments = CASES[name](), Segments(lengths, tuple((1,) if n > 60 else () for n in lengths))
    tensors = tensors_of(case, segments.total, len(lengths))
    expected = gradients(case, tensors, segments, "reference")
    found = gradients(case, [cast(t, torch.float32) for t in tensors], segments, "native")
    tolerance = (RELATIVE_FFT if case.complex_state else RELATIVE_OP)[torch.float32]
    for actual, wanted in zip(found, expected, strict=True):
        assert close(parts(actual), parts(wanted), tolerance)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients_have_their_inputs_dtype(name: str, level: str) -> None:
    """Oracle: the reference's gradients in float64 of the same rounded numbers."""
    case, segments = CASES[name](), Segments((20, 3))
    convolution = name.startswith("conv")
    *tensors, state = (cast(t, torch.float32) if t.is_complex() else t.bfloat16() for t in tensors_of(case, 23, 2))
    tensors.append(state if convolution or case.complex_state else state.float())
    found = gradients(case, tensors, segments, "native")
    expected = gradients(case, [cast(t, torch.float64) for t in tensors], segments, "reference")
    for actual, wanted, of in zip(found, expected, tensors, strict=True):
        assert actual.dtype == of.dtype
        # A convolution's outputs are rounded too, and so are the gradients that come to them.
        assert close(parts(actual), parts(wanted), (2 if convolution else 1) * RELATIVE_ROUNDED[torch.bfloat16])


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_one_gradient_alone_and_slices(name: str, level: str) -> None:
    """Oracle: the same gradient where every input has one and lies together."""
    case, segments = CASES[name](), Segments((20,))
    tensors, packed = [cast(t, torch.float32) for t in tensors_of(case, 20, 1)], len(case.inputs(1))
    slices = [sliced(t) if i < packed else t.clone() for i, t in enumerate(tensors)]
    together = [t.clone().requires_grad_() for t in tensors]
    both = []
    for leaves in ([slices[0].requires_grad_(), *slices[1:]], together):
        with dispatch.using("native"):
            y, _, _ = case.call(*arguments(case, leaves), segments)
        both += torch.autograd.grad(y.sum(), leaves[:1])
    assert close(*(gradient.double() for gradient in both), RELATIVE_OP[torch.float32])


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients_do_not_depend_on_the_number_of_threads(name: str, level: str) -> None:
    """Oracle: the same gradients with one thread, bit for bit."""
    case, segments = CASES[name](), Segments((150, 9, 9))
    tensors = [cast(t, torch.float32) for t in tensors_of(case, segments.total, 3)]
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(gradients(case, tensors, segments, "native"))
    finally:
        torch.set_num_threads(before)
    for result in results[1:]:
        assert all(torch.equal(actual, wanted) for actual, wanted in zip(result, results[0], strict=True))


@pytest.mark.parametrize("name", ["scan", "ssd"])
def test_gradients_where_decays_leave_nothing(name: str, level: str) -> None:
    """Oracle: the reference's gradients in float64 at time steps from 1e-6 to 100; decays underflow here and there."""
    case, segments = CASES[name](), Segments((200,))
    tensors = [t.float() for t in tensors_of(case, 200, 1)]
    tensors[1] = 10 ** (8 * torch.rand(tensors[1].shape) - 6)
    expected = gradients(case, [t.double() for t in tensors], segments, "reference")
    found = gradients(case, tensors, segments, "native")
    for actual, wanted in zip(found, expected, strict=True):
        assert close(actual.double(), wanted, RELATIVE_OP[torch.float32])


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_memory_is_linear_in_the_length(name: str) -> None:
    """Oracle: what autograd keeps of a row grows by the same bytes for the same number of tokens."""
    kept: dict[int, Tensor] = {}

    def keep(t: Tensor) -> Tensor:
        return kept.setdefault(t.untyped_storage().data_ptr(), t)

    def saved(length: int) -> int:
        case = CASES[name]()
        leaves = [cast(t, torch.float32).requires_grad_() for t in tensors_of(case, length, 1)]
        kept.clear()
        with dispatch.using("native"), torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
            case.call(*arguments(case, leaves), Segments((length,)))
        return sum(t.untyped_storage().nbytes() for t in kept.values())

    short, middle, long = (saved(length) for length in (200, 400, 600))
    assert 0 < long - middle == middle - short


def long_convolution(length: int, poles: Tensor) -> list[Tensor]:
    """Inputs of a gated convolution of as many channels as there are filters."""
    filters, modes = poles.shape
    residues, state = (torch.complex(randn(*shape), randn(*shape)) for shape in ((filters, modes), (1, filters, modes)))
    return [randn(length, filters), randn(length, filters), poles, residues, randn(filters), state]


def test_gradients_of_poles_that_are_zero(level: str) -> None:
    """Oracle: the recurrence in float64, differentiated by autograd; a convolution's powers have no slope there."""
    poles = torch.polar(torch.rand(5, 3).double(), randn(5, 3))
    poles[0, 0] = poles[3] = 0
    inputs = long_convolution(70, poles)
    found = [t.requires_grad_() for t in (cast(t, torch.float32) for t in inputs)]
    with dispatch.using("native"):
        y, after, _ = ops.gated_conv(*found, Segments((70,)))
    expected = [t.requires_grad_() for t in inputs]
    define = definitions.gated_conv(*expected[:-1], expected[-1][0])
    for made in ((y, after[0]), define):
        sum(parts(t).square().sum() for t in made).backward()
    for actual, wanted in zip(found, expected, strict=True):
        assert close(parts(actual.grad), parts(wanted.grad), RELATIVE_FFT[torch.float32])


def test_gradients_of_long_convolutions() -> None:
    """Oracle: the reference's gradients in float64 over 5,000 tokens, with poles next to the unit circle."""
    poles = torch.polar(1 - 10 ** (-1 - 4 * torch.rand(20, 8).double()), randn(20, 8))
    # Next to the circle, a rounded pole is another filter: both implementations get the same one.
    inputs, results = [cast(t, torch.float32) for t in long_convolution(5000, poles)], []
    for implementation, dtype in (("native", torch.float32), ("reference", torch.float64)):
        leaves = [cast(t, dtype).clone().requires_grad_() for t in inputs]
        with dispatch.using(implementation):
            y, after, _ = ops.gated_conv(*leaves, Segments((5000,)))
        (y.double() * inputs[0].flip(0)).sum().backward(retain_graph=True)
        parts(after).sum().backward()
        results.append([parts(leaf.grad) for leaf in leaves])
    for actual, wanted in zip(*results, strict=True):
        assert close(actual, wanted, RELATIVE_LONG)
