"""Small models whose widths have whole groups of quantization."""

import torch
from torch import Tensor

import braidlm
from braidlm.api.language_model import LanguageModel
from tests.families.tiny import tiny


def model_of(family: str, dtype: str = "float32") -> LanguageModel:
    """The first small description of a family whose width has whole groups, with random weights."""
    spec = next(spec for spec in (tiny(family, seed) for seed in range(20)) if spec.width % 32 == 0)
    return braidlm.build(spec, seed=1, dtype=dtype)


def ids_for(model: LanguageModel, length: int = 40) -> Tensor:
    return torch.randint(model.spec.vocab, (2, length), generator=torch.Generator().manual_seed(0))
