"""Subjects of reports in tests: small random models with a vocabulary of words."""

from dataclasses import replace

import torch
from torch import Tensor

import braidlm
from braidlm.api.language_model import LanguageModel
from braidlm.graft.report.settings import Report
from braidlm.graft.report.subjects import Subjects
from braidlm.spec import Attention, Block, Mlp, ModelSpec, Norm
from tests.eval.models import word_tokenizer

# Little of everything; answers of random models go on to the last token.
SMALL = Report(
    tokens=80, recall_tasks=("needle",), recall_lengths=(128,), recall_depths=(0.0, 1.0), haystacks=2,
    generation_prompts=4, lengths=(40, 300), speed_tokens=5, speed_rounds=2, prompts=("One", "Two"), answer_tokens=6,
)  # fmt: skip


def small_model(window: int | None = None, seed: int = 1) -> LanguageModel:
    """A model of two blocks with attention, the first of them in a window if one is given; it declares 256 tokens."""
    tokenizer = word_tokenizer()
    attention = Attention(heads=2, kv_heads=2, head_dim=16)
    blocks = tuple(
        Block(mixer=replace(attention, window=window if index == 0 else None), ffn=Mlp(hidden=32)) for index in range(2)
    )
    spec = ModelSpec(
        vocab=tokenizer.largest_id + 1, width=32, blocks=blocks, norm=Norm(eps=1e-6), max_positions=256, tied=True
    )
    made = braidlm.build(spec, seed=seed)
    made.tokenizer = tokenizer
    return made


def small_subjects() -> Subjects:
    """A donor, the same weights with a window for a graft, and other weights; no donor was trained."""
    return Subjects(donor=small_model(), graft=small_model(window=8), window_control=small_model(window=4, seed=2))


def small_texts(model: LanguageModel) -> list[Tensor]:
    """Three texts of random tokens."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(model.spec.vocab, (length,), generator=generator) for length in (50, 1, 60)]
