"""Cross-entropy of logits and its gradient, row by row.

    l = scale * logits,   plain = log sum exp l - l[target],   loss = plain + z_loss (log sum exp l)^2
    dloss / dlogits = scale * (softmax(l) (1 + 2 z_loss log sum exp l) - [target])

The second term is the z-loss (Chowdhery et al. 2022, section 5).

Legend: C = tokens, V = vocabulary.
"""

from typing import NamedTuple

from torch import Tensor

from .. import dispatch
from ..native_loader import why_not
from . import native, reference

dispatch.register("cross_entropy", "reference", reference.cross_entropy)
dispatch.register("cross_entropy", "native", native.cross_entropy, why_not)


class Losses(NamedTuple):
    """Losses of each token, in float32 (float64 for float64 logits): plain, log sum exp, and the logits' gradient."""

    plain_C: Tensor
    sums_C: Tensor
    dlogits_CV: Tensor | None


def cross_entropy(logits_CV: Tensor, targets_C: Tensor, scale: float, z_loss: float, *, gradient: bool) -> Losses:
    """Computes the losses of logits [C, V] for targets [C], and the `gradient`, which may overwrite the logits."""
    return Losses(
        *dispatch.select("cross_entropy", logits_CV.device.type)(logits_CV, targets_C, scale, z_loss, gradient)
    )
