"""Hyena filters as a network of the position, and the modes that are fitted to filters."""

from pathlib import Path

import pytest
import torch

import braidlm
from braidlm.errors import InputError
from braidlm.ops import Segments
from braidlm.train import implicit
from braidlm.train.implicit import ImplicitFilters
from braidlm.train.loop import Hooks, Trainer
from tests.families.tiny import tiny
from tests.train.packings import OneText
from tests.train.runs import config, ids_for, losses, model

SEED = torch.Generator().manual_seed(0)


def test_rows_are_convolved_alone_by_the_definition() -> None:
    """Oracle: the sum over earlier positions of the same row, in float64."""
    made = ImplicitFilters(2, 32)
    made.initialise(torch.Generator().manual_seed(2))
    u, gate, d = (torch.randn(size, generator=SEED) for size in ((20, 4), (20, 4), (4,)))
    y = made(u, gate, d, Segments((7, 13)))
    filters = made.filters(32).double().repeat_interleave(2, 0)
    for begin, end in ((0, 7), (7, 20)):
        for t in range(begin, end):
            wanted = sum(filters[:, t - s] * u[s].double() for s in range(begin, t + 1)) + d * u[t]
            assert torch.allclose(y[t].double(), gate[t] * wanted, atol=1e-5)


def test_windows_fall_as_published() -> None:
    """Oracle: by hand: beside their windows equal filters differ by nothing, and the windows are 0.01^(t / share)."""
    made = ImplicitFilters(3, 1000)
    made.initialise(torch.Generator().manual_seed(3))
    made.last.data[:] = made.last.data[0]
    with torch.no_grad():
        filters = made.filters(1000)
    shares, time = torch.tensor([1.5, 0.9, 0.3]), torch.arange(1000) / 1000
    windows = 0.01 ** (time / shares[:, None])
    assert torch.allclose(filters / windows, (filters / windows)[0].expand(3, -1), rtol=1e-3)


def test_sines_begin_with_the_frequency_that_is_asked_for() -> None:
    """Oracle: by hand: the first layer's sines of ten times the angle; the weights are the same."""
    networks = [model("stripedhyena") for _ in range(2)]
    for network, frequency in zip(networks, (1.0, 10.0), strict=True):
        implicit.attach(network, 32, 0, frequency)
    slow, fast = (network.blocks[0].mixer.implicit for network in networks)
    assert torch.equal(slow.last, fast.last) and torch.equal(slow.weights[0], fast.weights[0])
    for one, ten in zip(slow.frequencies, fast.frequencies, strict=True):
        assert torch.equal(10 * one, ten) and one.eq(1).all()


def test_a_stopped_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    """Oracle: the run without a stop; the modes that a model begins with stay as they are."""

    def asked(out: str) -> object:
        found = config(tmp_path / out)
        object.__setattr__(found.model, "filters", "implicit")
        return found

    network = model("stripedhyena")
    before = network.blocks[0].mixer.poles.clone()
    whole = losses(asked("whole"), network, ids_for(network))
    assert torch.equal(network.blocks[0].mixer.poles, before)
    found: list[float] = []
    hooks = Hooks(stepped=lambda step: found.append(step.loss))
    for until in (4, None):
        again = model("stripedhyena")
        Trainer(asked("halved"), again, OneText(ids_for(again)), []).run(hooks, until=until)
    assert found == whole and whole[-1] < whole[0]


def test_settled_weights_are_those_of_a_model_with_modes() -> None:
    """Oracle: the logits of the implicit filters, which those of the modes come near."""
    network = model("stripedhyena")
    implicit.attach(network, 64, seed=0)
    weights = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    lost = implicit.fit_modes(network, weights)
    resolved = braidlm.build(tiny("stripedhyena", 3)).network
    resolved.load_state_dict(weights)
    assert lost < 0.2
    ids, segments = torch.arange(40) % network.spec.vocab, Segments((40,))
    with torch.no_grad():
        wanted = network(ids, segments, network.training_state(1)).logits
        logits = resolved(ids, segments, resolved.training_state(1)).logits
    assert float((logits - wanted).norm() / wanted.norm()) < lost


def test_models_that_cannot_have_them() -> None:
    """Oracle: the message."""
    with pytest.raises(InputError, match="for Hyena blocks"):
        implicit.attach(model("mamba2"), 64, 0)
    network = model("stripedhyena")
    implicit.attach(network, 8, 0)
    with pytest.raises(InputError, match="a row has 9 tokens, but the implicit filters only 8"):
        network(torch.arange(9), Segments((9,)), network.training_state(1))
    state = network.training_state(1)
    state.commit(network(torch.arange(4), Segments((4,)), state).state)
    with pytest.raises(InputError, match="must be run in one pass"):
        network(torch.arange(4), Segments((4,)), state)
