"""The chunked cross-entropy, and losses of packed documents."""

import pytest
import torch
import torch.nn.functional as F

from braidlm.train.config import Loss
from braidlm.train.language_model import LanguageModelObjective
from braidlm.train.loss import cross_entropy
from braidlm.train.passes import Passes
from tests.families.tiny import TINY
from tests.tolerances import RELATIVE_GRADIENT
from tests.train.packings import pack_of, random_documents
from tests.train.runs import double, model

DOUBLE = torch.float64


def inputs(tokens: int = 13, width: int = 5, vocab: int = 11) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    hidden = torch.randn(tokens, width, dtype=DOUBLE, requires_grad=True)
    head = torch.randn(vocab, width, dtype=DOUBLE, requires_grad=True)
    targets = torch.randint(vocab, (tokens,))
    targets[::4] = -100
    return hidden, head, targets


@pytest.mark.parametrize("chunk", [1, 4, 100])
@pytest.mark.parametrize("z", [0.0, 0.1])
def test_values(chunk: int, z: float) -> None:
    """Oracle: torch's cross-entropy over all logits at once, and the z-loss written out."""
    hidden, head, targets = inputs()
    logits = 0.7 * hidden @ head.t()
    plain = F.cross_entropy(logits, targets, ignore_index=-100, reduction="sum")
    squared = logits.logsumexp(-1)[targets >= 0].square().sum()
    loss, told = cross_entropy(hidden, head, targets, scale=0.7, z_loss=z, chunk=chunk)
    torch.testing.assert_close(told, plain)
    torch.testing.assert_close(loss, plain + z * squared)


@pytest.mark.parametrize("z", [0.0, 0.1])
def test_gradients(z: float) -> None:
    """Oracle: finite differences in float64."""
    hidden, head, targets = inputs()

    def loss(hidden: torch.Tensor, head: torch.Tensor) -> torch.Tensor:
        return cross_entropy(hidden, head, targets, scale=0.7, z_loss=z, chunk=4)[0]

    assert torch.autograd.gradcheck(loss, (hidden, head))


def test_nothing_to_learn() -> None:
    """Oracle: a sum over nothing is zero, and so are its gradients."""
    hidden, head, targets = inputs()
    loss, plain = cross_entropy(hidden, head, torch.full_like(targets, -100))
    loss.backward()
    assert loss == plain == 0
    assert not hidden.grad.any() and not head.grad.any()


@pytest.mark.parametrize("activation_checkpointing", [False, True])
@pytest.mark.parametrize("family", TINY)
def test_packed_documents_do_not_see_each_other(family: str, activation_checkpointing: bool) -> None:
    """Oracle: each document in a pack of its own, in float64: the sum of losses, and every gradient's."""
    model = double(family)
    objective = LanguageModelObjective(
        model, Loss(z_loss=0.01, router_aux_loss=0.0), Passes(activation_checkpointing=activation_checkpointing)
    )
    texts = random_documents(model.spec.vocab, (7, 1, 33, 7, 64))
    together = objective(pack_of(texts)).loss
    gradients = torch.autograd.grad(together, list(model.parameters()), allow_unused=True)
    apart = torch.stack([objective(pack_of([text])).loss for text in texts]).sum()
    expected = torch.autograd.grad(apart, list(model.parameters()), allow_unused=True)
    torch.testing.assert_close(together, apart, rtol=RELATIVE_GRADIENT, atol=0)
    for (name, _), found, wanted in zip(model.named_parameters(), gradients, expected, strict=True):
        assert (found is None) == (wanted is None), name
        if found is not None:
            assert (found - wanted).abs().max() <= RELATIVE_GRADIENT * wanted.abs().max().clamp_min(1), name


@pytest.mark.parametrize("family", TINY)
def test_activations_computed_again(family: str) -> None:
    """Oracle: activations that are kept, with the kernels of float32: the loss and every gradient, bit for bit."""
    network = model(family).requires_grad_()
    pack = pack_of(random_documents(network.spec.vocab, (7, 33)))

    def gradients(again: bool) -> list[torch.Tensor | None]:
        objective = LanguageModelObjective(network, Loss(), Passes(activation_checkpointing=again))
        return torch.autograd.grad(objective(pack).loss, list(network.parameters()), allow_unused=True)

    for found, expected in zip(gradients(True), gradients(False), strict=True):
        assert (found is None) == (expected is None) and (found is None or torch.equal(found, expected))


@pytest.mark.parametrize("family", TINY)
def test_a_carried_state_is_the_text_before(family: str) -> None:
    """Oracle: the document in one piece, in float64: its loss is the sum of the pieces'."""
    model = double(family)
    objective = LanguageModelObjective(model, Loss())
    (text,) = random_documents(model.spec.vocab, (50,))
    whole = objective(pack_of([text])).plain
    first, second = pack_of([text[:21]]), pack_of([text[20:]])
    begun = objective(pack_of([text[:20]])._replace(targets_T=first.ids_T[1:]), carry=True)
    rest = objective(second, begun.after)
    torch.testing.assert_close(begun.plain + rest.plain, whole, rtol=RELATIVE_GRADIENT, atol=0)
    assert not any(t.requires_grad for layer in begun.after[0].layers for t in layer.recurrent.values())
