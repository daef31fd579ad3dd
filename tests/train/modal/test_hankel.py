"""Hankel singular values of filters."""

import pytest
import torch

from braidlm.train.modal import spectrum
from tests.tolerances import RELATIVE_HANKEL
from tests.train.modal.systems import defined, system


@pytest.mark.parametrize("length", [300, 3000])
def test_singular_values_are_those_of_the_gramians(length: int) -> None:
    """Oracle: roots of the eigenvalues of the product of both Gramians of a known system, solved in closed form."""
    poles, residues = system(2, 3, seed=1)
    values = spectrum(defined(poles, residues, length), 10).values_FK
    for number in range(2):
        pole = torch.cat([poles[number], poles[number].conj()])
        output = torch.cat([residues[number], residues[number].conj()]) / 2 * pole  # of the taps from the second on
        controllability = 1 / (1 - pole[:, None] * pole.conj())
        observability = output.conj()[:, None] * output / (1 - pole.conj()[:, None] * pole)
        wanted = torch.linalg.eigvals(controllability @ observability).real.sqrt().sort(descending=True).values
        assert torch.allclose(values[number, :6], wanted, rtol=0, atol=RELATIVE_HANKEL * float(wanted[0]))
        assert values[number, 6:].max() < RELATIVE_HANKEL * wanted[0]


def test_large_matrices_are_decomposed_without_being_formed() -> None:
    """Oracle: singular values of the whole matrix; of a slow decay to rounding, of noise, which has no few, roughly."""
    time = torch.arange(1200, dtype=torch.float64)
    noise = torch.randn(1200, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) * 0.99**time
    filters = torch.stack([1 / (1 + time), noise])
    slow, rough = torch.linalg.svdvals(filters[:, 1:1200].unfold(1, 600, 1))[:, :20]
    values = spectrum(filters, 20).values_FK
    assert torch.allclose(values[0], slow, rtol=0, atol=RELATIVE_HANKEL * float(slow[0]))
    assert torch.allclose(values[1], rough, rtol=0.1)


def test_short_filters_have_as_many_as_they_can() -> None:
    """Oracle: half of the length, and a filter of two taps, whose matrix is its second one."""
    assert spectrum(torch.ones(1, 9), 40).values_FK.shape == (1, 4)
    assert spectrum(torch.tensor([[3.0, -2.0]]), 40).values_FK.tolist() == [[2.0]]
