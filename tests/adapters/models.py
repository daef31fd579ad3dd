"""Small models with random weights, and adapters that look trained."""

import torch
from torch import Tensor

from braidlm.adapters import Adapters
from braidlm.describe import skeleton
from braidlm.init import randomise
from braidlm.model import Model
from braidlm.ops import Segments
from tests.families.tiny import tiny

SEEDS = {
    "granitemoehybrid": next(n for n in range(9) if "Moe(" in str(tiny("granitemoehybrid", n))),
    "hymba": next(n for n in range(9) if tiny("hymba", n).prefix_tokens == 3),
    "llama": next(n for n in range(9) if tiny("llama", n).width == 32 and not tiny("llama", n).tied),
}


def small(family: str, dtype: torch.dtype = torch.float64) -> Model:
    """A small model with random weights; Granite with experts, Llama with widths that can be packed."""
    model = skeleton(tiny(family, SEEDS.get(family, 1)))
    randomise(model, 0, dtype, "cpu")
    return model.eval()


def stirred(adapters: Adapters) -> Adapters:
    """Adapters as if trained: no part is zero."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in adapters.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return adapters


def logits(model: Model) -> Tensor:
    """Logits of two rows of unequal length."""
    ids_T = torch.arange(24) * 7 % model.spec.vocab
    out = model(ids_T, Segments((17, 7)), model.passing_state(2)).logits
    assert isinstance(out, Tensor)
    return out


def close(found: Tensor, wanted: Tensor, tolerance: float) -> None:
    """Relative to the largest value."""
    found, wanted = found.detach(), wanted.detach()
    assert float((found - wanted).abs().max()) <= tolerance * float(wanted.abs().max())
