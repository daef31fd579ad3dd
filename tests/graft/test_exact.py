"""Grafts that leave the donor as it is: nothing replaced, windows longer than the text, silent recurrences."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

import braidlm
from braidlm.graft.compose import compose, new_mixers
from braidlm.graft.layout import Layout, Rule, candidates, hybrid_spec
from braidlm.graft.options import MixerOptions
from braidlm.graft.samples import take_samples
from braidlm.model.model import Model
from braidlm.ops import Segments
from braidlm.spec import Attention
from tests.families.tiny import TINY, tiny
from tests.tolerances import RELATIVE_LOGITS

LENGTHS = (37, 12)
LONG = 64
OPTIONS: Mapping[str, MixerOptions | None] = {
    "kept": None,
    "window": MixerOptions(kind="window", window=LONG),
    "parallel, mamba2": MixerOptions(kind="parallel", window=LONG),
    "parallel, mamba": MixerOptions(kind="parallel", window=LONG, ssm="mamba"),
}


def _logits(model: Model, ids_T: Tensor) -> Tensor:
    segments = Segments(LENGTHS)
    logits = model(ids_T, segments, model.training_state(len(LENGTHS))).logits
    assert logits is not None
    return logits


@pytest.mark.parametrize("family", TINY)
@pytest.mark.parametrize("options", OPTIONS)
def test_a_graft_that_replaces_nothing_is_the_donor(family: str, options: str) -> None:
    """Oracle: the donor's own logits, for every family and every block that has attention of its own."""
    donor = braidlm.build(tiny(family, 1), seed=1, dtype="float64").network
    ids_T = torch.arange(sum(LENGTHS)) * 7 % donor.spec.vocab
    attentive = [
        index
        for index, block in enumerate(donor.spec.blocks)
        if isinstance(block.mixer, Attention) and block.mixer.kv_from is None
    ]
    mixer = OPTIONS[options]
    rules = tuple(Rule(blocks=str(index), mixer=mixer) for index in attentive) or (Rule(blocks="0"),)
    found = candidates(Layout(rules=rules), donor.spec)
    with torch.no_grad():
        samples = take_samples(donor, ids_T, Segments(LENGTHS), found.mixers)
        mixers = {index: new.double() for index, new in new_mixers(donor, found, samples, seed=0).items()}
        made = compose(donor, mixers, hybrid_spec(donor.spec, found.mixers, found.mixers))
        expected, actual = _logits(donor, ids_T), _logits(made, ids_T)
    assert len(mixers) == (len(attentive) if mixer is not None else 0)
    assert (actual - expected).abs().max() <= RELATIVE_LOGITS[torch.float64] * expected.abs().max()
