"""Scaling law of losses: L(N, D) = E + A / N^alpha + B / D^beta, for N parameters and D tokens.

Hoffmann et al. 2022, "Training Compute-Optimal Large Language Models", approach 3: the Huber loss of the logarithms,
minimised from several beginnings. Intervals are those that 90% of the fits of resampled runs lie in.
"""

import itertools
import random
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import huber_loss

HUBER = 1e-3
SAMPLES = 100
NAMES = ("E", "A", "B", "alpha", "beta")
Run = Mapping[str, Any]
# A value, and the ends of its interval.
Estimate = tuple[float, float, float]


def fitted(runs: Sequence[Run], samples: int) -> dict[str, Estimate]:
    """Estimates of the law's constants and of the exponent of the best size, N ~ C^(beta / (alpha + beta))."""
    best = min((_fit(runs, start) for start in _starts()), key=lambda found: found[1])[0]
    rng = random.Random(0)
    others = [_fit(rng.choices(runs, k=len(runs)), best)[0] for _ in range(samples)]
    every = [_constants(one) for one in (best, *others)]
    return {name: _interval([constants[name] for constants in every]) for name in every[0]}


def predicted(law: Tensor, parameters: Tensor, tokens: Tensor) -> Tensor:
    """Logarithms of the losses that a law gives; `law` is log E, log A, log B, alpha, beta."""
    e, a, b, alpha, beta = law
    parts = (e.expand_as(parameters), a - alpha * parameters.log(), b - beta * tokens.log())
    return torch.stack(parts).logsumexp(0)


def _starts() -> list[Tensor]:
    grid = itertools.product((0.0,), (3.0, 7.0), (3.0, 7.0), (0.3, 0.6), (0.3, 0.6))
    return [torch.tensor(start, dtype=torch.float64) for start in grid]


def _fit(runs: Sequence[Run], start: Tensor) -> tuple[Tensor, float]:
    """Law that fits best from a beginning, and what is left."""
    law = start.clone().requires_grad_()
    sizes, tokens, losses = (
        torch.tensor([run[name] for run in runs], dtype=torch.float64) for name in ("parameters", "tokens", "loss")
    )
    optimizer = torch.optim.LBFGS([law], max_iter=200, line_search_fn="strong_wolfe", tolerance_change=1e-12)

    def left() -> Tensor:
        optimizer.zero_grad()
        # Divided, so that steps are of a size that the search is made for.
        loss = huber_loss(predicted(law, sizes, tokens), losses.log(), delta=HUBER, reduction="sum") / HUBER
        loss.backward()
        return loss

    optimizer.step(left)
    return law.detach(), left().detach().nan_to_num(torch.inf).item()


def _constants(law: Tensor) -> dict[str, float]:
    e, a, b, alpha, beta = law.tolist()
    logs = (min(value, 700.0) for value in (e, a, b))
    values = (*(torch.tensor(value, dtype=torch.float64).exp().item() for value in logs), alpha, beta)
    total = alpha + beta
    return dict(zip(NAMES, values, strict=True)) | {"size exponent": beta / total if total else float("nan")}


def _interval(values: Sequence[float]) -> Estimate:
    """The first value, and the bounds of 90% of the others."""
    bounds = statistics.quantiles(values[1:], n=20) if len(values) > 2 else [values[0]] * 2
    return values[0], bounds[0], bounds[-1]
