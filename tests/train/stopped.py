"""Run that was stopped half-way."""

from pathlib import Path

import torch

from braidlm.api.language_model import LanguageModel
from braidlm.train import run as runs
from braidlm.train.config import read_config
from braidlm.train.loop import Hooks
from braidlm.train.world import World

IDS = torch.arange(40, 90)[None]
STEPS = ("run.checkpoint=2", "run.keep=5", "run.sample=0", "run.tensorboard=false", "stages.0.steps=6")


def stopped(place: Path, *changes: str) -> torch.Tensor:
    """Logits of a run's own model after step 4 of 6, where it is left."""
    prepared = runs.prepare(read_config(place / "run.toml", [*STEPS, *changes]), World())
    runs.train(prepared, Hooks(stop=lambda: 15 if prepared.trainer.step == 4 else 0))
    assert prepared.trainer.step == 4
    language = LanguageModel(prepared.trainer.model.eval(), None, prepared.language.origin)
    with torch.no_grad():
        return language.forward(IDS)
