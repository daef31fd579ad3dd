"""Dropout of the attention branch of parallel layers, so that the recurrence beside it learns to do its part.

A window of attention beside a recurrence explains most of what is near, and the recurrence is left unused (Benfeghoul
et al. 2025, arXiv 2510.05901). So the branch is left out at random, of each layer and packed sequence by itself, with a
probability that falls to zero.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ..errors import InputError
from ..layers.layer import BranchedMixer
from ..model.model import Model
from .config import BranchDropout

# Random numbers of a step that are used here and nowhere else.
_STREAM = 1


class DroppedBranches:
    """Attention branches of a model that are left out of passes of training."""

    def __init__(self, model: Model, asked: BranchDropout, seed: int, steps: int) -> None:
        """`steps` are those of the schedule; `InputError` if no layer of the model has such a branch."""
        self._mixers = [module for module in model.modules() if isinstance(module, BranchedMixer)]
        self._asked, self._seed, self._steps = asked, seed, steps
        if not self._mixers:
            raise InputError(
                "branch_dropout leaves out attention beside a recurrence, which no block of the model has; take it out "
                "of the configuration, or make blocks parallel"
            )

    @contextmanager
    def drawn(self, step: int, index: int) -> Iterator[None]:
        """Leaves branches out of the pass over sequence `index` of the batch of a step, and of its gradient.

        What is drawn depends on nothing but seed, step and index: all processes that share a sequence draw the same.
        """
        generator = torch.Generator().manual_seed(hash((self._seed, step, index, _STREAM)))
        drawn = torch.rand(len(self._mixers), generator=generator) < probability(self._asked, step, self._steps)
        for mixer, dropped in zip(self._mixers, drawn.tolist(), strict=True):
            mixer.attention_dropped = dropped
        try:
            yield
        finally:
            for mixer in self._mixers:
                mixer.attention_dropped = False


def probability(asked: BranchDropout, step: int, steps: int) -> float:
    """Probability that a branch is left out in `step` (from 0) of a schedule's `steps`."""
    return asked.start * max(0.0, 1 - step / (asked.until * steps))
