"""Weights to begin with."""

import math

import pytest
import torch

from braidlm.model.footprint import skeleton
from braidlm.spec import Attention, Block, Hyena, Mamba, Mamba2, Mlp, ModelSpec, Norm
from braidlm.train.initial import initialise

MAMBA = Mamba(inner=512, d_state=16, dt_rank=16)
MAMBA2 = Mamba2(heads=8, head_dim=64, d_state=64)
HYENA = Hyena(d_state=8, filters=256)
ATTENTION = Attention(heads=4, kv_heads=2, head_dim=64)


def made(mixer: object, seed: int = 0) -> dict[str, torch.Tensor]:
    blocks = (Block(mixer=mixer, ffn=Mlp(hidden=512)),) * 2
    model = skeleton(ModelSpec(vocab=1000, width=256, blocks=blocks, norm=Norm(eps=1e-5), tied=False))
    initialise(model, seed)
    return dict(model.named_parameters())


@pytest.mark.parametrize("mixer", [MAMBA, MAMBA2, HYENA, ATTENTION])
def test_published_spreads(mixer: object) -> None:
    """Oracle: deviations by hand: 0.02, or uniform within 1/sqrt(inputs); outputs less by sqrt(4) for 4 additions."""
    found = made(mixer)
    recurrent = not isinstance(mixer, Attention)
    for name, weight in found.items():
        *_, module, leaf = name.split(".")
        if leaf != "weight" or weight.dim() < 2:
            continue
        inputs = math.prod(weight.shape[1:])
        uniform = recurrent and ".mixer." in name
        expected = 1 / math.sqrt(3 * inputs) if uniform else 0.02
        expected /= 2 if module in ("out_proj", "o_proj", "down_proj") else 1
        assert weight.std().item() == pytest.approx(expected, rel=0.1), name
        if uniform:
            assert weight.abs().max() <= expected * math.sqrt(3) * 1.001, name


@pytest.mark.parametrize("mixer", [MAMBA, MAMBA2])
def test_time_steps_and_decays(mixer: object) -> None:
    """Oracle: the published ranges: softplus of the bias from 0.001 to 0.1, A from 1 to 16."""
    found = made(mixer)
    bias = next(weight for name, weight in found.items() if name.endswith(("dt_bias", "dt_proj.bias")))
    steps = torch.nn.functional.softplus(bias)
    assert steps.min() >= 0.001 * 0.99 and steps.max() <= 0.1 * 1.01
    a = next(weight for name, weight in found.items() if name.endswith("a_log")).exp()
    assert a.min().item() == pytest.approx(1) and a.max().item() == pytest.approx(16)


def test_filters() -> None:
    """Oracle: poles within the unit circle; filters of norm about one at the first token."""
    found = made(HYENA)
    poles = torch.view_as_complex(found["blocks.0.mixer.poles"])
    residues = torch.view_as_complex(found["blocks.0.mixer.residues"])
    assert poles.abs().max() < 1
    assert residues.real.sum(-1).std().item() == pytest.approx(math.sqrt(0.5), rel=0.2)


def test_seeds() -> None:
    """Oracle: the same seed, the same weights; another one, others."""
    one, same, other = made(MAMBA2), made(MAMBA2), made(MAMBA2, 1)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["embed.weight"], other["embed.weight"])
