"""Small models with random weights, and adapters that look trained."""

from pathlib import Path

import torch
from torch import Tensor

import braidlm
from braidlm.adapters import (
    Adapters,
    Lora,
    StateTuning,
    attach,
    attach_initial,
    detach_initial,
    save_adapter,
    save_initial,
)
from braidlm.model.footprint import skeleton
from braidlm.model.initialisation import randomise
from braidlm.model.model import Model
from braidlm.ops import Segments
from braidlm.spec import Moe
from tests.families.tiny import tiny

SEEDS = {
    "granitemoehybrid": next(
        n for n in range(9) if any(isinstance(block.ffn, Moe) for block in tiny("granitemoehybrid", n).blocks)
    ),
    "hymba": next(n for n in range(9) if tiny("hymba", n).meta_tokens == 3),
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


def loaded(family: str, place: Path) -> braidlm.LanguageModel:
    """A model with two adapters and a learned state beside it."""
    language = braidlm.build(tiny(family, SEEDS.get(family, 1)))
    for seed, name in enumerate(("one", "two")):
        adapters = attach(language.network, Lora(rank=3, alpha=12.0), seed=seed)
        save_adapter(stirred(adapters), place / name)
        adapters.detach()
        language.load_adapter(name, place / name)
    initial = attach_initial(language.network, StateTuning())
    with torch.no_grad():
        for parameter in initial.parameters():
            parameter += torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2))
    save_initial(language.network, place / "task.safetensors")
    detach_initial(language.network)
    language.load_initial_state("task", place / "task.safetensors")
    return language


def logits(model: Model) -> Tensor:
    """Logits of two rows of unequal length."""
    ids_T = torch.arange(24) * 7 % model.spec.vocab
    out = model(ids_T, Segments((17, 7)), model.training_state(2)).logits
    assert isinstance(out, Tensor)
    return out


def close(found: Tensor, wanted: Tensor, tolerance: float) -> None:
    """Relative to the largest value."""
    found, wanted = found.detach(), wanted.detach()
    assert float((found - wanted).abs().max()) <= tolerance * float(wanted.abs().max())
