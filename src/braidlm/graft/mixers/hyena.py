"""Hyena in the place of attention: values convolved with the average pattern of each head's attention.

Its gates begin at one. Modes that cancel each other, or poles that learn as fast as weights, would let the filters
explode at the first step: a pole near the unit circle moves every tap behind it. Modes that have not faded where the
measured pattern ends would go on beyond it, over texts longer than any that it was measured on.

Legend: H = heads, L = lags, M = modes of a filter, T = tokens, K = size of a head.
"""

import math
from typing import Any

import torch
from torch import Tensor

from ...errors import SpecError
from ...layers.batch import Batch
from ...ops import Segments
from ...spec import Attention, Hyena
from ...train import modal
from ...train.config import ParameterGroup
from ..options import MixerOptions
from .replacer import Sample, copy_output, heads_of, identity_taps, plain_weight

INITIAL = (
    "v from the donor's values, gates 1, output projection copied; a filter for each head, fitted to its average "
    "attention by distance"
)

# Poles learn as many times more slowly than other new parameters.
POLES = ParameterGroup(match=("*.poles",), lr=0.01)

_TAPS = 3
# Tokens on which a pattern is measured, at most, and first ones that are left out: heads that find nothing look there.
_TOKENS, _FIRST = 512, 4
# What is left of the slowest mode where the pattern ends.
_FADED = math.exp(-8)
# Residues cost so much that no two cancel each other, at hardly a larger error.
_RIDGE = 1e-2


def spec(donor: Attention, options: MixerOptions, width: int) -> Hyena:
    """Spec with a filter for each of the donor's heads."""
    if donor.inner != width:
        raise SpecError(
            f"its heads have {donor.inner} channels together, but a Hyena layer has the {width} that the model is wide"
        )
    return Hyena(d_state=options.d_state or 16, filters=donor.heads, conv=_TAPS)


@torch.no_grad()
def initialise(new: Any, donor: Any, sample: Sample) -> None:
    """Fills all parameters."""
    width, model = len(new.d), donor.spec
    new.in_proj.weight[: 2 * width] = 0
    new.in_proj.weight[2 * width :] = heads_of(plain_weight(donor.v_proj), model, model.v_dim).flatten(0, 1)
    new.in_proj.bias[: 2 * width] = 1
    new.in_proj.bias[2 * width :] = 0
    if donor.v_proj.bias is not None:
        new.in_proj.bias[2 * width :] = heads_of(donor.v_proj.bias[:, None], model, model.v_dim).flatten()
    identity_taps(new.conv)
    pattern_HL = average_pattern(donor, sample)
    modes = modal.fit(pattern_HL, new.spec.d_state, ridge=_RIDGE, radius=_FADED ** (1 / pattern_HL.shape[1]))
    new.poles.copy_(torch.view_as_real(modes.poles_FM))
    new.residues.copy_(torch.view_as_real(modes.residues_FM))
    new.d.copy_(modes.direct_F.repeat_interleave(width // new.spec.filters))
    copy_output(new.out_proj, donor)


def average_pattern(donor: Any, sample: Sample) -> Tensor:
    """Mean weight that each head gives to the key so many tokens back, over the queries that have one: [H, L].

    Measured on the longest document of the sample, of which at most its first 512 tokens, up to half of that length:
    further back, few queries have a key. Keys at the beginning are no part of it, since their weight is due to their
    place, which a convolution does not know.
    """
    model, lengths = donor.spec, sample.segments.lengths
    longest = max(range(len(lengths)), key=lengths.__getitem__)
    begin, length = sample.segments.starts[longest], min(lengths[longest], _TOKENS)
    x_TD = sample.inputs_TD[begin : begin + length]
    dtype = donor.q_proj.weight.dtype
    q = donor.q_proj(x_TD.to(dtype)).unflatten(-1, (model.heads, model.head_dim))
    k = donor.k_proj(x_TD.to(dtype)).unflatten(-1, (model.kv_heads, model.head_dim))
    if model.rope is not None:
        rotation = Batch(Segments((length,)), (0,), x_TD.device).rotation
        q, k = rotation.rotate(q, model.rope), rotation.rotate(k, model.rope)
    k = k.repeat_interleave(model.heads // model.kv_heads, 1)
    scores_HTT = torch.einsum("thk,shk->hts", q.float(), k.float()) * donor.scale
    seen_TT = torch.ones(length, length, dtype=torch.bool).tril()
    if model.window is not None:
        seen_TT = seen_TT.triu(1 - model.window)
    weights_HTT = scores_HTT.masked_fill(~seen_TT, -torch.inf).softmax(-1)
    first, count = min(_FIRST, length // 4), max(1, length // 2)
    lags = [weights_HTT.diagonal(-lag, 1, 2)[:, first:].mean(-1) for lag in range(count)]
    return torch.stack(lags, 1)
