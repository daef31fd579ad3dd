"""Initial filters of a Hyena layer that takes the place of attention."""

from typing import Any

import pytest
import torch

import braidlm
from braidlm.graft.compose import mixer_of, published_mixer
from braidlm.graft.mixers import hyena
from braidlm.graft.mixers.replacer import Sample
from braidlm.graft.options import MixerOptions
from braidlm.ops import Segments
from braidlm.spec import Attention, Block, ModelSpec, Norm
from braidlm.train import modal

LENGTH = 64


@pytest.fixture
def donor() -> Any:
    """A model of one attention block, without positions."""
    attention = Attention(heads=4, kv_heads=2, head_dim=8)
    return braidlm.build(ModelSpec(vocab=8, width=32, blocks=(Block(mixer=attention),), norm=Norm(eps=1e-5))).network


def sample(inputs_TD: torch.Tensor) -> Sample:
    """One document."""
    return Sample(inputs_TD, inputs_TD, Segments((len(inputs_TD),)))


def test_filters_fade_behind_the_pattern_that_they_follow(donor: Any) -> None:
    """Oracle: the measured pattern in its first half, and nothing at many times that distance, at any length."""
    generator = torch.Generator().manual_seed(0)
    measured = sample(torch.randn(LENGTH, 32, generator=generator))
    attention = mixer_of(donor, 0)
    new: Any = published_mixer(hyena.spec(attention.spec, MixerOptions(kind="hyena"), 32), donor.spec, 0)
    hyena.initialise(new, attention, measured)
    pattern_HL = hyena.average_pattern(attention, measured)
    lags, half = pattern_HL.shape[1], pattern_HL.shape[1] // 2
    poles_FM, residues_FM = torch.view_as_complex(new.poles.detach()), torch.view_as_complex(new.residues.detach())
    direct_F, zero_F = new.d.detach().view(4, -1)[:, 0], torch.zeros(4)
    filters_HL = modal.impulse_response(modal.Modes(poles_FM, residues_FM, direct_F, zero_F, zero_F), 10 * lags)
    assert (filters_HL[:, :half] - pattern_HL[:, :half]).norm() < 0.1 * pattern_HL.norm()
    assert filters_HL[:, 5 * lags :].abs().max() < 1e-6


def test_the_beginning_of_a_text_is_no_distance(donor: Any) -> None:
    """Oracle: by hand: heads that all look at the first token attend to nothing so many tokens back."""
    attention: Any = mixer_of(donor, 0)
    with torch.no_grad():
        for projection in (attention.q_proj, attention.k_proj):
            projection.weight.zero_()
            projection.weight[::8, 0] = 1
    inputs_TD = torch.zeros(LENGTH, 32)
    inputs_TD[:, 0] = 5
    inputs_TD[0, 0] = 20
    assert hyena.average_pattern(attention, sample(inputs_TD)).max() < 1e-6


@pytest.mark.parametrize("length", [2, 3, 9])
def test_short_texts(donor: Any, length: int) -> None:
    """Oracle: weights of one query sum to one: no mean of them is larger, and none is missing."""
    pattern_HL = hyena.average_pattern(mixer_of(donor, 0), sample(torch.ones(length, 32)))
    assert pattern_HL.shape == (4, length // 2)
    assert (pattern_HL > 0).all() and (pattern_HL <= 1).all()
