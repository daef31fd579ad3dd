"""Divergence from a teacher, chunk by chunk."""

import pytest
import torch
import torch.nn.functional as F

from braidlm.train.divergence import Predictions, divergence
from tests.tolerances import RELATIVE_GRADIENT

DOUBLE = torch.float64
WIDTHS, VOCAB, SCALES = (5, 7), 50, (0.7, 1.3)


def predictions(tokens: int = 37, dtype: torch.dtype = DOUBLE) -> tuple[Predictions, Predictions, torch.Tensor]:
    """Those of a model and of a wider teacher, and targets of which some take no part."""
    torch.manual_seed(0)
    found = [
        Predictions(torch.randn(tokens, width, dtype=dtype), torch.randn(VOCAB, width, dtype=dtype), scale)
        for width, scale in zip(WIDTHS, SCALES, strict=True)
    ]
    targets = torch.randint(VOCAB, (tokens,))
    targets[::4] = -100
    found[0].hidden_TD.requires_grad_()
    found[0].head_VD.requires_grad_()
    return found[0], found[1], targets


@pytest.mark.parametrize("chunk", [1, 20, 100])
@pytest.mark.parametrize("share", [0.0, 0.3])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_values_and_gradients(temperature: float, share: float, chunk: int) -> None:
    """Oracle: torch's kl_div and cross_entropy over all logits at once, with autograd, in float64."""
    model, teacher, targets = predictions()
    made = divergence(model, teacher, targets, temperature=temperature, cross_entropy=share, chunk=chunk)
    kept = targets >= 0
    s, t = (p.scale * (p.hidden_TD @ p.head_VD.t())[kept] for p in (model, teacher))
    logq, logp = (F.log_softmax(logits / temperature, -1) for logits in (s, t))
    kl = F.kl_div(logq, logp, log_target=True, reduction="sum")
    plain = F.cross_entropy(s, targets[kept], reduction="sum")
    expected = (1 - share) * temperature**2 * kl + share * plain
    torch.testing.assert_close(made.loss, expected)
    torch.testing.assert_close(made.kl, kl)
    torch.testing.assert_close(made.plain, plain)
    assert made.agreement == (s.argmax(-1) == t.argmax(-1)).sum()
    leaves = (model.hidden_TD, model.head_VD)
    for found, wanted in zip(
        torch.autograd.grad(3 * made.loss, leaves), torch.autograd.grad(3 * expected, leaves), strict=True
    ):
        assert (found - wanted).abs().max() <= RELATIVE_GRADIENT * wanted.abs().max()


def test_a_frozen_head() -> None:
    """Oracle: the gradient of the hidden states when the head has one too; without any, the same values."""
    model, teacher, targets = predictions()
    (expected,) = torch.autograd.grad(divergence(model, teacher, targets).loss, model.hidden_TD)
    frozen = model._replace(head_VD=model.head_VD.detach())
    (found,) = torch.autograd.grad(divergence(frozen, teacher, targets).loss, model.hidden_TD)
    assert torch.equal(found, expected)
    with torch.no_grad():
        assert divergence(model, teacher, targets).kl == divergence(frozen, teacher, targets).kl


def test_nothing_to_learn() -> None:
    """Oracles: zero over no targets; zero from oneself, with gradients of zero, and agreement everywhere."""
    model, _, targets = predictions()
    none = divergence(model, model, torch.full_like(targets, -100))
    assert none.loss == none.plain == none.kl == none.agreement == 0
    own = Predictions(model.hidden_TD.detach(), model.head_VD.detach(), model.scale)
    made = divergence(model, own, targets)
    made.loss.backward()
    assert abs(made.kl) < 1e-12 and model.hidden_TD.grad.abs().max() < 1e-12
    assert made.agreement == (targets >= 0).sum()


def test_bfloat16() -> None:
    """Oracle: the same in float64 over the logits as they are in bfloat16: sums are float32's."""
    model, teacher, targets = predictions(dtype=torch.bfloat16)
    made = divergence(model, teacher, targets)
    s, t = (p.scale * p.products(slice(None))[targets >= 0].double() for p in (model, teacher))
    expected = F.kl_div(F.log_softmax(s, -1), F.log_softmax(t, -1), log_target=True, reduction="sum")
    assert made.kl.dtype == torch.float32
    torch.testing.assert_close(made.kl.double(), expected, rtol=1e-5, atol=0)
