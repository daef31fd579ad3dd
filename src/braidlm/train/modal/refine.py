"""Gradient refinement of poles: Levenberg-Marquardt steps on the squared error, residues solved for at each.

The error of a filter is that of its taps in the Euclidean norm (Massaroli et al. 2023, section 3.2). Residues are
linear in it and are eliminated (variable projection: Golub and Pereyra 1973, with the Jacobian of Kaufman 1975), so
that a step moves radii and angles alone. A radius is a sigmoid times its bound: every pole on the way is stable.

Legend: F = filters, L = positions from the second, M = modes, P = 2M: radii, then angles (or real, imaginary parts).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .residues import Solved, solve

# A filter with a smaller relative error is done: float32 holds no more of it.
_DONE = 1e-7
# A filter is done, too, once a step gains less than this part of the cost, or its damping is above the bound.
_GAIN, _MOST_DAMPING = 1e-3, 1e6
# Radii, as parts of their bound, from which a sigmoid's slope can still move them.
_NEAREST = 1e-6


class _Point(NamedTuple):
    """Filters on their way: their number among all, radii (before the sigmoid) and angles, damping, modes."""

    number_F: Tensor
    theta_FP: Tensor
    damping_F: Tensor
    solved: Solved

    def where(self, chosen_F: Tensor, other: "_Point") -> "_Point":
        """Point of the chosen filters as they are here, and of the rest as in the other one."""
        return self._mapped(lambda mine, theirs: _where(chosen_F, mine, theirs), other)

    def select(self, going_F: Tensor) -> "_Point":
        """Point of some filters alone."""
        return self._mapped(lambda mine, _: mine[going_F], self)

    def _mapped(self, change: Callable[[Tensor, Tensor], Tensor], other: "_Point") -> "_Point":
        return _Point(
            change(self.number_F, other.number_F),
            change(self.theta_FP, other.theta_FP),
            change(self.damping_F, other.damping_F),
            Solved(*(change(*pair) for pair in zip(self.solved, other.solved, strict=True))),
        )


def refine(taps_FL: Tensor, poles_FM: Tensor, radius: float, steps: int, ridge: float) -> Tensor:
    """Poles of less cost, after at most `steps` steps for each filter; real poles and zeros stay what they are.

    The filters are given from their second position on.
    """
    made = poles_FM.clone()
    bound_FM = (poles_FM.abs() / radius).clamp(_NEAREST, 1 - _NEAREST)
    theta_FP = torch.cat([bound_FM.logit(), poles_FM.angle()], 1)
    # A real pole stays real: its angle has no gradient but rounding. A pole of zero is a spare one.
    complex_FM = poles_FM.imag.abs() > 1e-12 * poles_FM.abs()
    free_FP = torch.cat([poles_FM != 0, complex_FM], 1)
    norms_F = taps_FL.norm(dim=1)
    damping_F = torch.full_like(norms_F, 1e-3)
    point = _Point(torch.arange(len(made)), theta_FP, damping_F, solve(poles_FM, taps_FL, ridge))
    for _ in range(steps):
        number_F = point.number_F
        theta_FP = point.theta_FP + _step(point, radius) * free_FP[number_F]
        poles = torch.where(poles_FM[number_F] == 0, 0, _poles(theta_FP, radius))
        trial = _Point(number_F, theta_FP, point.damping_F / 5, solve(poles, taps_FL[number_F], ridge))
        gain_F = 1 - trial.solved.cost_F(ridge) / point.solved.cost_F(ridge)
        point = trial.where(gain_F > 0, point._replace(damping_F=point.damping_F * 5))
        made[number_F] = point.solved.poles_FM
        going_F = point.solved.rest_FL.norm(dim=1) > _DONE * norms_F[number_F]
        going_F &= ((gain_F <= 0) | (gain_F > _GAIN)) & (point.damping_F < _MOST_DAMPING)
        if not going_F.any():
            break
        point = point.select(going_F)
    return made


def _poles(theta_FP: Tensor, radius: float) -> Tensor:
    radii_FM, angles_FM = theta_FP.chunk(2, 1)
    return torch.polar(radii_FM.sigmoid() * radius, angles_FM)


def _step(point: _Point, radius: float) -> Tensor:
    """Step of radii and angles [F, P] that the linearised filters ask for."""
    solved = point.solved
    slopes_FM = 1 - point.theta_FP.chunk(2, 1)[0].sigmoid()
    times_L = torch.arange(1, solved.rest_FL.shape[1] + 1, dtype=torch.float64)
    moved_FML = solved.units_FML * torch.complex(*solved.x_FP.chunk(2, 1))[..., None] * times_L
    jacobian_FLP = torch.cat([moved_FML.real * slopes_FM[..., None], -moved_FML.imag], 1).mT
    mixed_FPP = solved.columns_FLP.mT @ jacobian_FLP
    inside_FPP = torch.linalg.solve_triangular(solved.factor_FPP, mixed_FPP, upper=False)
    normal_FPP = jacobian_FLP.mT @ jacobian_FLP - inside_FPP.mT @ inside_FPP
    # The rest is at right angles to the columns, but for the ridge's part, which the residues' own step takes.
    gradient_FP = (solved.rest_FL[:, None] @ jacobian_FLP)[:, 0]
    scale_FP = normal_FPP.diagonal(dim1=1, dim2=2).clamp(min=0)
    floor_F1 = scale_FP.amax(1, keepdim=True) * 1e-9 + 1e-300
    damped_FPP = normal_FPP + torch.diag_embed(point.damping_F[:, None] * (scale_FP + floor_F1))
    return torch.linalg.solve(damped_FPP, gradient_FP[..., None])[..., 0].clamp(-1, 1)


def _where(chosen_F: Tensor, first: Tensor, second: Tensor) -> Tensor:
    return torch.where(chosen_F.view(-1, *[1] * (first.dim() - 1)), first, second)
