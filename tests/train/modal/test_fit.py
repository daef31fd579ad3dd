"""Modes that are fitted to filters."""

import pytest
import torch

from braidlm.train.implicit import ImplicitFilters
from braidlm.train.modal import fit, impulse_response, spectrum
from tests.tolerances import RELATIVE_MODES
from tests.train.modal.systems import defined, system


def rough_filters(count: int, length: int) -> torch.Tensor:
    """Implicit filters whose sines are three times as fast as those that training begins with."""
    made = ImplicitFilters(count, length)
    made.initialise(torch.Generator().manual_seed(1))
    for frequency in made.frequencies:
        frequency.data *= 3
    with torch.no_grad():
        return made.filters(length)


@pytest.mark.parametrize("length", [64, 500])
def test_modes_are_found_again(length: int) -> None:
    """Oracle: the filters of known modes; a mode of them is a single tap, as published filters may have."""
    poles, residues = system(3, 4, seed=0)
    poles[2, 3] = 0
    filters = defined(poles, residues, length)
    modes = fit(filters, 4)
    found = defined(modes.poles_FM, modes.residues_FM, length)
    found[:, 0] += modes.direct_F
    assert torch.allclose(found, filters, rtol=0, atol=RELATIVE_MODES * float(filters.norm()))
    assert torch.allclose(impulse_response(modes, length), found, rtol=0, atol=1e-12)
    assert torch.allclose(modes.error_F, (found - filters).norm(dim=1), rtol=0, atol=RELATIVE_MODES)
    assert torch.allclose(modes.norm_F, filters.norm(dim=1))


def test_poles_and_residues_are_found_again() -> None:
    """Oracle: those that the filter was made of, one by one."""
    poles, residues = system(1, 3, seed=3)
    modes = fit(defined(poles, residues, 400), 3)
    nearest = (modes.poles_FM[0, :, None] - poles).abs().argmin(0)
    assert sorted(nearest.tolist()) == [0, 1, 2]
    assert torch.allclose(modes.poles_FM[0, nearest].to(poles), poles[0], rtol=0, atol=RELATIVE_MODES)
    assert torch.allclose(modes.residues_FM[0, nearest].to(poles), residues[0], rtol=0, atol=10 * RELATIVE_MODES)


def test_errors_fall_with_the_order_and_by_refinement() -> None:
    """Oracle: the filters themselves, and the bound that no modes can pass: a Hankel singular value of the filter."""
    filters = rough_filters(4, 512)
    values = spectrum(filters, 17).values_FK
    before = torch.full((4,), torch.inf, dtype=torch.float64)
    for order in (1, 2, 4, 8):
        begun, modes = fit(filters, order, steps=0), fit(filters, order)
        rest = (impulse_response(modes, 512) - filters)[:, 1:]
        # The Hankel matrix of the rest has no smaller norm than the next singular value, and a larger Frobenius norm.
        most = (rest.square() * torch.arange(1, 512)).sum(1).sqrt()
        assert (most > values[:, 2 * order] * (1 - 1e-6)).all()
        assert (modes.error_F <= begun.error_F * (1 + 1e-6)).all()
        assert (modes.error_F < before).all()
        assert torch.allclose(rest.norm(dim=1), modes.error_F, rtol=1e-6)
        before = modes.error_F
    assert float(before.norm() / filters.norm()) < 1e-3


def test_poles_are_stable_even_of_filters_that_grow() -> None:
    """Oracle: the unit circle; a filter that grows to its end is followed within it."""
    filters = 1.01 ** torch.arange(100, dtype=torch.float64)[None]
    modes = fit(filters, 4)
    assert modes.poles_FM.abs().max() < 1
    assert float(modes.relative_F) < 0.1


def test_poles_within_a_radius() -> None:
    """Oracle: the radius that is asked for, which filters that hardly decay, or grow, would pass; errors are larger."""
    filters = torch.tensor([[0.999], [1.05]]) ** torch.arange(20, dtype=torch.float64)
    free, bound = fit(filters, 3), fit(filters, 3, radius=0.6)
    assert free.poles_FM.abs().amax(1).min() > 0.99
    assert bound.poles_FM.abs().max() <= 0.6 * (1 + 1e-6)
    assert (free.relative_F < bound.relative_F).all() and (bound.relative_F < 1).all()


def test_few_modes_lose_little_of_a_smooth_filter() -> None:
    """Oracle: the filters themselves; eight modes of a filter of 1,024 positions leave less than a ten-thousandth."""
    made = ImplicitFilters(16, 1024)
    made.initialise(torch.Generator().manual_seed(1))
    with torch.no_grad():
        filters = made.filters(1024)
    modes = fit(filters, 8)
    assert modes.poles_FM.abs().max() < 1
    assert float(modes.error_F.norm() / filters.norm()) < 1e-4
    assert torch.allclose(defined(modes.poles_FM, modes.residues_FM, 1024).float(), filters, atol=1e-4)


def test_symmetric_systems_have_real_poles() -> None:
    """Oracle: a filter of known real poles of both signs, whose modes are found; of another one they stay real."""
    poles = torch.tensor([[0.95, 0.6, -0.8, -0.3]], dtype=torch.complex128)
    filters = defined(poles, torch.tensor([[1.0, 2.0, -1.5, 0.7]]), 200)
    modes = fit(filters, 4, real=True)
    assert float(modes.relative_F) < RELATIVE_MODES
    found = modes.poles_FM[0].real.sort().values.double()
    assert torch.allclose(found, poles[0].real.sort().values, rtol=0, atol=10 * RELATIVE_MODES)
    other = fit(rough_filters(3, 200), 6, real=True)
    assert other.poles_FM.imag.abs().max() < 1e-6
    assert (other.relative_F < 0.5).all()


def test_filters_of_few_taps() -> None:
    """Oracle: by hand: nothing is left of zeros and of one tap; two taps are no modes, but near to some."""
    filters = torch.zeros(3, 16)
    filters[1, 0], filters[2, :2] = 2, torch.tensor([1.0, 3.0])
    modes = fit(filters, 4)
    assert modes.error_F[:2].tolist() == [0, 0] and modes.direct_F[1] == 2
    assert float(modes.relative_F[2]) < 0.01
    assert fit(torch.tensor([[3.0, -2.0]]), 1).error_F.tolist() == [2]
