"""Runs of tiny models on one text, as tests of training and the processes that they start make them."""

from pathlib import Path

import braidlm
from braidlm.model.model import Model
from braidlm.train.config import Config, Data, Loss, Optimizer, Run, Schedule, Source, Stage
from braidlm.train.loop import Hooks, Trainer
from tests.families.tiny import tiny
from tests.train.packings import OneText

# Over and over, so that the losses of packs anywhere in it can be compared.
TEXT = b"Sing, o goddess, the wrath of Achilles. " * 25


def model(family: str = "hymba") -> Model:
    return braidlm.build(tiny(family, 3)).network


def double(family: str) -> Model:
    """The same model in float64, to be trained."""
    return braidlm.build(tiny(family, 3), dtype="float64").network.requires_grad_()


def config(out: Path, *stages: Stage, **run: object) -> Config:
    return Config(
        model=Source(preset="none"),
        data=Data(shards="none"),
        stages=stages or (Stage(steps=6, batch_size=2, seq_len=40),),
        optimizer=Optimizer(lr=1e-2),
        schedule=Schedule(warmup=2),
        loss=Loss(),
        run=Run(out=str(out), **({"checkpoint": 2, "evaluate": 0, "tensorboard": False} | run)),
    )


def losses(asked: Config, network: Model, ids: list[int]) -> list[float]:
    found: list[float] = []
    Trainer(asked, network, OneText(ids), []).run(Hooks(stepped=lambda step: found.append(step.loss)))
    return found


def ids_for(network: Model) -> list[int]:
    return [byte % network.spec.vocab for byte in TEXT]
