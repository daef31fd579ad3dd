"""Auxiliary loss of routers: how unevenly a mixture uses its experts.

Legend: T = tokens, X = experts, K = experts a token.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import RoutedFeedForward


class RouterAuxLoss:
    """Load-balancing loss of every mixture of experts in a model, collected pass by pass (Fedus et al. 2021, eq. 4).

    X sum_e f_e P_e, with f_e the part of the choices that fell on expert e and P_e its mean probability: 1 when all
    experts are used alike, X when one is used alone. The mean over the mixtures.
    """

    def __init__(self, model: nn.Module) -> None:
        self._found: list[Tensor] = []
        mixtures = [module for module in model.modules() if isinstance(module, RoutedFeedForward)]
        for mixture in mixtures:
            mixture.register_forward_pre_hook(self._collect)
        self.present = bool(mixtures)

    def begin(self) -> None:
        """Forgets what was collected; what a block collects when it is computed again for its gradient is not used."""
        self._found = []

    def value(self) -> Tensor:
        """Mean over the mixtures of the pass since `begin`."""
        return torch.stack(self._found).mean()

    def _collect(self, mixture: RoutedFeedForward, inputs: tuple[Any, ...]) -> None:
        router = mixture.router if mixture.router_adapter is None else mixture.router_adapter(mixture.router)
        logits_TX = F.linear(inputs[0].float(), router.float())
        experts = logits_TX.shape[1]
        chosen_TK = logits_TX.topk(mixture.top_k, -1).indices
        used_X = chosen_TK.flatten().bincount(minlength=experts) / chosen_TK.numel()
        self._found.append(experts * (used_X * logits_TX.softmax(-1).mean(0)).sum())
