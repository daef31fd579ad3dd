"""Weights that are changed behind torch's back: through `.data`, or through an array over their memory."""

from collections.abc import Callable

import pytest
import torch

import braidlm
from braidlm import LanguageModel
from braidlm.errors import StateError
from braidlm.model.model import Model
from braidlm.system.digest import sampled
from tests.engine.asked import SMALL, asked, made, prompt
from tests.families.tiny import tiny
from tests.quant.small import model_of


def through_data(model: Model) -> None:
    model.embed.weight.data.mul_(-1.5)


def through_an_array(model: Model) -> None:
    array = model.norm.weight.detach().numpy()
    array *= -2.0


def of_packed(model: Model) -> None:
    name, scales = next((n, part) for n, part in model.named_buffers() if part.is_floating_point())
    assert "scale" in name
    scales.data.mul_(-1.5)


def fresh(model: LanguageModel) -> LanguageModel:
    """The same weights in a model that has never computed anything."""
    network = braidlm.build(model.spec, seed=2).network
    if any(True for _ in model.network.named_buffers()):
        found = LanguageModel(network, None, model.origin)
        found.quantize("int8")
        network = found.network
    network.load_state_dict(model.network.state_dict())
    return LanguageModel(network, None, model.origin)


@pytest.mark.parametrize("edit", [through_data, through_an_array, of_packed])
@pytest.mark.parametrize("family", ["hymba", "llama"])
def test_engine_and_states(family: str, edit: Callable[[Model], None]) -> None:
    """Oracle: a model that was given these weights and has never computed with others; hymba has a prefix that is kept.

    States and what the cache holds of the old weights are of another model.
    """
    model = model_of(family)
    if edit is of_packed:
        model = LanguageModel(braidlm.build(model.spec, seed=1, dtype="bfloat16").network, None, model.origin)
        model.quantize("int8")
    request = asked(prompt(model, 40))
    with model.engine(limits=SMALL) as engine:
        before = made(engine.submit(request))
        state = model.new_state()
        model.forward([[1, 2, 3]], state=state)
        edit(model.network)
        handle = engine.submit(request)
        after = made(handle)
        assert handle.usage is not None and handle.usage.cached == 0
    model.new_state()
    with pytest.raises(StateError, match="another model"):
        model.forward([[4]], state=state)
    with fresh(model).engine(limits=SMALL) as other:
        assert after == made(other.submit(request)) != before


def test_nothing_changed() -> None:
    """Oracle: by hand: what moves weights in memory, and what leaves them alone, changes no fingerprint."""
    model = model_of("llama")
    before = model.network.weights.fingerprint()
    with model.network.weights.keep_fingerprint():
        for weight in model.network.parameters():
            weight.data = weight.data.clone()
    for _ in range(3):
        assert model.new_state().identity.fingerprint == before
    assert model.network._versions.unseen == 0


def test_kinds_of_tensors() -> None:
    """Oracle: by hand, of every kind that weights have: a change of all elements is seen, a copy is not."""
    wide = torch.arange(1.0, 65.0)
    kinds = [wide, wide.bfloat16(), wide.to(torch.float8_e4m3fn), wide.to(torch.int8), torch.complex(wide, wide)]
    for tensor in [*kinds, wide.reshape(8, 8), torch.ones(1), torch.ones(()), torch.ones(0), wide.double()]:
        assert sampled([tensor]) == sampled([tensor.clone()])
        other = (tensor.to(torch.complex64) * 2).real.to(tensor.dtype) if not tensor.is_complex() else tensor * 2
        assert (sampled([tensor]) == sampled([other])) == (tensor.numel() == 0)
    assert sampled([wide.reshape(8, 8).t()]) == sampled([])  # not contiguous: not looked at


def test_variants_follow() -> None:
    """Oracle: a model over the new weights that is made now."""
    model = braidlm.build(tiny("mamba2", 1), seed=1)
    before = model.network.weights.fingerprint()
    twin = model.network.share_weights()
    model.network.embed.weight.data.mul_(2)
    model.network.weights.notice_edits()
    assert model.network.weights.fingerprint() != before
    assert twin.new_state(1).identity.fingerprint == model.network.weights.fingerprint()
