"""Embeddings of texts: the mean of a model's last hidden states.

Legend: L = tokens, D = width.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .language_model import LanguageModel

RunWork = Callable[[Callable[[], Any]], Any]


def embed(model: LanguageModel, ids: Sequence[int], *, part: int = 256, run: RunWork = lambda work: work()) -> Tensor:
    """Embedding of a text: the mean of its last hidden states, scaled to length 1; [D] in float32.

    The text is read in parts of `part` tokens, each by a call of `run`, between which others may use the model.
    """
    state = run(model.new_state)
    total_D = torch.zeros(model.spec.width)
    for begin in range(0, len(ids), part):
        total_D += run(functools.partial(_read, model, ids[begin : begin + part], state))
    return total_D / total_D.norm().clamp_min(1e-12)


def _read(model: LanguageModel, ids: Sequence[int], state: Any) -> Tensor:
    """Sum of the hidden states of some tokens, by which `state` is moved on."""
    hidden_LD = model.forward([list(ids)], state=state, logits=None, hidden_states=("norm",)).hidden_states["norm"][0]
    return hidden_LD.float().sum(0).cpu()
