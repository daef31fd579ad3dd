"""Mamba-2 in the place of attention: C, B and x begin as the donor's queries, keys and values.

Linear attention is the recurrence of state-space duality without decay (Dao and Gu 2024, section 7.1); the weights
are carried over as by Wang et al. 2024 ("The Mamba in the Llama", section 3).
"""

import math
from typing import Any

import torch

from ...spec import Attention, Mamba2
from ..options import CONV, MixerOptions
from .replacer import Sample, copy_output, fitted, heads_of, identity_taps, plain_weight, rms_by_channel

INITIAL = (
    "C, B and x from the donor's queries, keys and values (a key/value head repeated for its query heads); output "
    "projection copied; short convolution the identity; gate 1; decays slow, from 16 to 4,096 tokens over the heads; "
    "gains of the norm as large as the donor's heads"
)

SILU_IS_ONE = 1.2784645427610738  # silu(x) = 1
_STEP_IS_ONE = math.log(math.e - 1)  # softplus(x) = 1
_SPANS = (16.0, 4096.0)


def spec(donor: Attention, options: MixerOptions, width: int) -> Mamba2:
    """Spec with the donor's heads; each has B and C of its own, as each query head has its own scores."""
    return Mamba2(
        heads=donor.heads,
        head_dim=donor.v_dim,
        d_state=options.d_state or donor.head_dim,
        groups=donor.heads,
        conv=options.conv or CONV,
        proj_bias=True,
    )


@torch.no_grad()
def initialise(new: Any, donor: Any, sample: Sample) -> None:
    """Fills all parameters; the queries carry the attention's scale."""
    size, model = new.spec, donor.spec
    q = plain_weight(donor.q_proj).unflatten(0, (model.heads, model.head_dim)) * donor.scale
    k = heads_of(plain_weight(donor.k_proj), model, model.head_dim)
    v = heads_of(plain_weight(donor.v_proj), model, model.v_dim)
    rows = {"z": size.inner, "x": size.inner, "b": size.groups * size.d_state}
    z, x, b, c, dt = new.in_proj.weight.split([*rows.values(), rows["b"], size.heads])
    z.zero_()
    x.copy_(v.flatten(0, 1))
    b.copy_(fitted(k, size.d_state))
    c.copy_(fitted(q, size.d_state))
    dt.zero_()
    _biases(new, donor)
    identity_taps(new.conv)
    new.dt_bias.fill_(_STEP_IS_ONE)
    low, high = (math.log(span) for span in _SPANS)
    new.a_log.copy_(-torch.linspace(low, high, size.heads))
    new.d.zero_()
    new.norm.weight.copy_(rms_by_channel(sample.attended_TE))
    if hasattr(new, "out_proj"):
        copy_output(new.out_proj, donor)


def _biases(new: Any, donor: Any) -> None:
    """Biases of the input projection: a gate of one, and what the donor's own projections add."""
    size, model = new.spec, donor.spec
    bias = new.in_proj.bias
    bias.zero_()
    bias[: size.inner] = SILU_IS_ONE
    if donor.v_proj.bias is not None:
        bias[size.inner : 2 * size.inner] = heads_of(donor.v_proj.bias[:, None], model, model.v_dim).flatten()
        b = 2 * size.inner
        c, end = b + size.groups * size.d_state, b + 2 * size.groups * size.d_state
        bias[b:c] = fitted(heads_of(donor.k_proj.bias[:, None], model, model.head_dim), size.d_state)[:, 0]
        q = donor.q_proj.bias.unflatten(0, (model.heads, model.head_dim))[..., None] * donor.scale
        bias[c:end] = fitted(q, size.d_state)[:, 0]
