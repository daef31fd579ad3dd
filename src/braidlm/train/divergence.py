"""Divergence of a model's next tokens from a teacher's, without the logits of either ever existing whole.

    loss = (1 - a) T^2 KL(softmax(t / T) || softmax(s / T)) - a log softmax(s)[target]
    dloss / ds = (1 - a) T (softmax(s / T) - softmax(t / T)) + a (softmax(s) - [target])

with s and t the logits of model and teacher, T the temperature, a the share of the cross-entropy (Hinton et al. 2015,
section 2).

Legend: T = tokens, D = width, V = vocabulary, C = tokens of a chunk, R = tokens of a block.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..ops.products import mm
from .loss import HeadGradients

# Logits of so many tokens, of both models, are in the cache while they are read several times.
_BLOCK = 16


class Predictions(NamedTuple):
    """Next tokens of a model as its head's input, [T, D], the head, [V, D], and the factor of their product."""

    hidden_TD: Tensor
    head_VD: Tensor
    scale: float

    def at(self, places_N: Tensor) -> "Predictions":
        """Predictions at some places."""
        return self._replace(hidden_TD=self.hidden_TD.index_select(0, places_N))

    def with_one_dtype(self) -> "Predictions":
        """The same with the head in the dtype of the hidden states."""
        return self._replace(head_VD=self.head_VD.to(self.hidden_TD.dtype))

    def products(self, part: slice) -> Tensor:
        """Logits of a part of the tokens before they are scaled, [C, V]; hidden states and head have one dtype."""
        return mm(self.hidden_TD[part], self.head_VD.t())


class Divergence(NamedTuple):
    """Sums over tokens, in float32 (float64 for float64 hidden states).

    loss: the formula above, with its gradient. plain: cross-entropy. kl: divergence of the tempered distributions.
    agreement: number of tokens that both models find likeliest.
    """

    loss: Tensor
    plain: Tensor
    kl: Tensor
    agreement: Tensor


def divergence(
    model: Predictions,
    teacher: Predictions,
    targets_T: Tensor,
    *,
    temperature: float = 1.0,
    cross_entropy: float = 0.0,
    chunk: int = 1024,
) -> Divergence:
    """Sums over the tokens whose target is not negative; gradients go to the model's hidden states and head alone.

    The gradient is made in the same pass, `chunk` tokens at a time.
    """
    places_N = (targets_T >= 0).nonzero()[:, 0]
    if len(places_N) < len(targets_T):
        model, teacher, targets_T = model.at(places_N), teacher.at(places_N), targets_T[places_N]
    weights = _Weights(temperature, cross_entropy, model.scale)
    return Divergence(*_Divergence.apply(*model[:2], teacher, targets_T, weights, chunk))


class _Weights(NamedTuple):
    """Weights of the terms: temperature T, share a of the cross-entropy, scale of the model's products."""

    temperature: float
    cross_entropy: float
    scale: float


class _Divergence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_TD: Tensor,
        head_VD: Tensor,
        teacher: Predictions,
        targets_T: Tensor,
        weights: _Weights,
        chunk: int,
    ) -> tuple[Tensor, ...]:
        model, teacher = Predictions(hidden_TD, head_VD, weights.scale).with_one_dtype(), teacher.with_one_dtype()
        gradients = HeadGradients(hidden_TD, model.head_VD, head_VD.dtype, ctx.needs_input_grad)
        sums = hidden_TD.new_zeros(3, dtype=torch.promote_types(hidden_TD.dtype, torch.float32))
        for begin in range(0, len(hidden_TD), chunk):
            part = slice(begin, begin + chunk)
            logits_CV = model.products(part)
            sums += _chunk_sums(
                logits_CV, teacher.products(part), teacher.scale, targets_T[part], weights, gradients.needed
            )
            gradients.add(part, logits_CV)
        plain, kl, agreement = sums.unbind()
        a, temperature = weights.cross_entropy, weights.temperature
        ctx.save_for_backward(*gradients.found())
        ctx.mark_non_differentiable(plain, kl, agreement)
        return (1 - a) * temperature**2 * kl + a * plain, plain, kl, agreement

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dtotal: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        dhidden, dhead = (None if t is None else t * dtotal.to(t.dtype) for t in ctx.saved_tensors)
        return dhidden, dhead, None, None, None, None


def _chunk_sums(
    logits_CV: Tensor, teacher_CV: Tensor, teacher_scale: float, targets_C: Tensor, weights: _Weights, gradient: bool
) -> Tensor:
    """Cross-entropy, divergence and agreement of a chunk; the `gradient` takes the place of the logits."""
    wide = torch.promote_types(logits_CV.dtype, torch.float32)
    sums = logits_CV.new_zeros(3, dtype=wide)
    for begin in range(0, len(logits_CV), _BLOCK):
        part = slice(begin, begin + _BLOCK)
        s_RV, t_RV = logits_CV[part].to(wide) * weights.scale, teacher_CV[part].to(wide) * teacher_scale
        more, dlogits_RV = _block(s_RV, t_RV, targets_C[part], weights, gradient)
        sums += more
        if dlogits_RV is not None:
            logits_CV[part] = dlogits_RV
    return sums


def _block(
    s_RV: Tensor, t_RV: Tensor, targets_R: Tensor, weights: _Weights, gradient: bool
) -> tuple[Tensor, Tensor | None]:
    temperature, a = weights.temperature, weights.cross_entropy
    agreement = (s_RV.argmax(-1) == t_RV.argmax(-1)).sum()
    logp_RV = s_RV - s_RV.logsumexp(-1, keepdim=True)
    plain = -logp_RV.gather(1, targets_R[:, None]).sum()
    tempered = temperature != 1
    logq_RV = (s_RV / temperature).log_softmax(-1) if tempered else logp_RV
    wanted_RV = (t_RV / temperature if tempered else t_RV).log_softmax(-1)
    probability_RV = wanted_RV.exp()
    kl = (wanted_RV.sub_(logq_RV)).mul_(probability_RV).sum()
    sums = torch.stack([plain, kl, agreement.to(plain.dtype)])
    if not gradient:
        return sums, None
    dlogits_RV = logq_RV.exp().sub_(probability_RV).mul_((1 - a) * temperature)
    if a:
        dlogits_RV.add_(logp_RV.exp(), alpha=a)
        dlogits_RV.scatter_add_(1, targets_R[:, None], dlogits_RV.new_full((len(targets_R), 1), -a))
    return sums, dlogits_RV.mul_(weights.scale)
