"""Known systems: filters made of known modes, by their definition."""

import torch
from torch import Tensor


def defined(poles: Tensor, residues: Tensor, length: int) -> Tensor:
    """The definition: sum_m Re(residue_m pole_m^t), [F, length] in float64."""
    poles, residues = poles.to(torch.complex128), residues.to(torch.complex128)
    powers = [torch.ones_like(poles)]  # 0^0 is 1
    for _ in range(length - 1):
        powers.append(powers[-1] * poles)
    return (residues[..., None] * torch.stack(powers, -1)).real.sum(-2)


def system(filters: int, modes: int, seed: int, slowest: float = 0.95) -> tuple[Tensor, Tensor]:
    """Poles of radii from 0.45 to `slowest` and residues, [filters, modes] in complex128."""
    generator = torch.Generator().manual_seed(seed)
    radii = torch.rand(filters, modes, dtype=torch.float64, generator=generator) * (slowest - 0.45) + 0.45
    angles = torch.rand(filters, modes, dtype=torch.float64, generator=generator) * 3
    return torch.polar(radii, angles), torch.randn(filters, modes, dtype=torch.complex128, generator=generator)
