"""Subjects of reports in tests: small random models with a vocabulary of words."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

import braidlm
from braidlm.api.language_model import LanguageModel
from braidlm.graft.compose import compose
from braidlm.graft.finished import finish
from braidlm.graft.layout import Layout, candidates
from braidlm.graft.options import MixerOptions
from braidlm.graft.phases import Phase
from braidlm.graft.prepared import Prepared
from braidlm.graft.recipe import GraftRun, Recipe
from braidlm.graft.report.settings import Report
from braidlm.graft.report.subjects import Subjects
from braidlm.spec import Attention, Block, Mlp, ModelSpec, Norm
from braidlm.train.config import Data, Optimizer, Stage
from braidlm.train.training_log import TrainingLog
from tests.eval.models import word_tokenizer

# Little of everything; answers of random models go on to the last token.
SMALL = Report(
    tokens=80, recall_tasks=("needle",), recall_lengths=(128,), recall_depths=(0.0, 1.0), haystacks=2,
    generation_prompts=4, lengths=(200, 300), speed_tokens=5, speed_rounds=2, prompts=("One", "Two"), answer_tokens=6,
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
    """A donor, another model for a graft, and the donor with a window over its own weights; no donor was trained."""
    donor = small_model()
    windows = compose(donor.network, {}, small_model(window=4).spec)
    control = LanguageModel(windows, donor.tokenizer, donor.origin)
    return Subjects(donor, small_model(window=8, seed=2), control)


def small_texts(model: LanguageModel) -> list[Tensor]:
    """Three texts of random tokens."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(model.spec.vocab, (length,), generator=generator) for length in (50, 1, 60)]


def finished_stages(out: Path, language: LanguageModel) -> Prepared:
    """A graft whose stages have left their files in `out`: block 0 of two was replaced, as the probe said."""
    rule = MixerOptions(kind="parallel", window=8)
    recipe = Recipe(
        donor="small", layout=Layout(mixer=rule, keep=0.5), data=Data(shards="shards"), run=GraftRun(out=str(out)),
        distil=Phase(stages=(Stage(steps=3, batch_size=1, seq_len=32),), optimizer=Optimizer(lr=1e-3)),
    )  # fmt: skip
    for name, fields in (("align", {"block_0": 0.5, "block_1": 0.25}), ("distil", {"kl": 0.75, "agreement": 0.5})):
        log = TrainingLog(_made(out / name), 0, tensorboard=False)
        for step in (1, 2, 3):
            log.add_line(step, loss=1 / step, norm=1.0, lr=1e-3, tokens=32, seconds=0.5, **fields)
            for field, value in {"loss": 0.5, **fields}.items():
                log.add_line(step, **{f"eval_{field}": value / step})
    finish(out / "align", {}, {"steps": 3, "errors": {"0": 0.125, "1": 0.0625}})
    lost = {"divergence": 0.25, "perplexity": 0.125, "recall": -0.5}
    losses = {"all": lost, "replaced 0": lost, "replaced 1": {**lost, "divergence": 0.75}}
    finish(out / "probe", {}, {"losses": losses, "worth": {"0": 0.25, "1": 0.75}, "replaced": [0]})
    return Prepared(recipe, language, candidates(recipe.layout, language.spec), language)


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True)
    return directory
