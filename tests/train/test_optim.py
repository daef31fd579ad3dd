"""Groups of parameters, and how the learning rate goes."""

import pytest
import torch

import braidlm
from braidlm.train import optim
from braidlm.train.config import Schedule
from tests.families.tiny import TINY, tiny


@pytest.mark.parametrize("family", TINY)
def test_what_decays(family: str) -> None:
    """Oracle: by hand: matrices decay; gains, biases, A, D, time steps, poles, residues and prefixes do not."""
    model = braidlm.build(tiny(family, 3)).network.requires_grad_()
    groups = optim.groups(model, 0.1)
    of = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert len(of) == len(list(model.parameters()))
    kept = ("bias", "a_log", "d", "dt_bias", "poles", "residues", "prefix")
    for name, parameter in model.named_parameters():
        leaf = name.rpartition(".")[2]
        decays = leaf not in kept and parameter.dim() >= 2
        assert of[id(parameter)] == (0.1 if decays else 0.0), name


def test_rates() -> None:
    """Oracle: by hand: warm-up in equal steps, the top after it, half-way down in the middle, the final part last."""
    cosine = Schedule(kind="cosine", warmup=10, final=0.1, steps=110)
    assert optim.rate(0, cosine) == pytest.approx(0.1)
    assert optim.rate(9, cosine) == optim.rate(10, cosine) == pytest.approx(1.0)
    assert optim.rate(60, cosine) == pytest.approx(0.55)
    assert optim.rate(110, cosine) == optim.rate(500, cosine) == pytest.approx(0.1)
    wsd = Schedule(kind="wsd", warmup=0.1, final=0.0, decay=0.2, steps=100)
    assert optim.rate(4, wsd) == pytest.approx(0.5)
    assert optim.rate(50, wsd) == optim.rate(79, wsd) == 1.0
    assert optim.rate(90, wsd) == pytest.approx(0.5)
    assert optim.rate(99, wsd) == pytest.approx(0.05)
    assert optim.rate(100, wsd) == optim.rate(500, wsd) == 0.0
    assert optim.rate(0, Schedule(warmup=0, steps=10)) == 1.0


def test_poles_stay_in_the_unit_circle() -> None:
    """Oracle: by hand: those outside keep their angle and get radius one; the others, zero among them, stay."""
    model = braidlm.build(tiny("stripedhyena", 3)).network.requires_grad_()
    (name, poles), *_ = [(name, p) for name, p in model.named_parameters() if name.endswith("poles")]
    before = poles.detach().clone()
    with torch.no_grad():
        poles[0, 0] = torch.tensor([3.0, 4.0])
        poles[0, 1] = 0.0
    optim.project_parameters(model)
    torch.testing.assert_close(poles[0, 0], torch.tensor([0.6, 0.8]))
    assert not poles[0, 1].any()
    assert torch.equal(poles[1:], before[1:]), name
