"""One process of a run over several, which writes its losses."""

import json
from dataclasses import replace
from pathlib import Path

import torch

import braidlm
from braidlm.adapters import Lora
from braidlm.model.model import Model
from braidlm.train.config import BranchDropout, ParameterGroup, Stage, Teacher
from braidlm.train.distillation import DistillationObjective
from braidlm.train.loop import Hooks, Trainer
from braidlm.train.passes import passes_of
from braidlm.train.world import join
from tests.train.block_regression import BlockRegression
from tests.train.packings import OneText, pack_of
from tests.train.runs import config, ids_for, model

EXTRAS = {
    "lora": {"adapter": Lora(rank=2, target_modules=("o_proj",))},
    "dropout": {"branch_dropout": BranchDropout(start=0.8)},
}


def train(family: str, out: Path, parallelism: str, steps: int, context_parallel: int, packing: str) -> None:
    """Documents go on from pack to pack with their state ("carried"), or are cut ("cut").

    A family may be "bamba+lora": the attention blocks' outputs alone are adapted; "bamba+teacher": it is distilled from
    other weights; "bamba+frozen": a block is frozen at first; "bamba+stopped": a block is stopped by its objective, so
    that nothing in it has a gradient any more; "hymba+dropout": attention is left out at random.
    """
    torch.set_num_threads(1)
    family, _, extra = family.partition("+")
    network, losses = model(family), []
    world, carry = join("cpu", context_parallel), packing == "carried"
    run = {"dtype": "float32", "parallelism": parallelism, "context_parallel": context_parallel, "carry_state": carry}
    asked = config(out, Stage(steps=6, batch_size=2, seq_len=40), **run)
    asked = replace(asked, **EXTRAS.get(extra, {}))
    if extra == "frozen":
        groups = (ParameterGroup(match=("blocks.0.*",), frozen_steps=3),)
        asked = replace(asked, optimizer=replace(asked.optimizer, groups=groups))
    documents = OneText(ids_for(network), () if carry else (13, 20, 27))
    objective = None
    if extra == "teacher":
        teacher, passes = braidlm.build(network.spec, seed=1).network, passes_of(asked.run, world)

        def objective(student: Model) -> DistillationObjective:
            return DistillationObjective(student, teacher, Teacher(checkpoint="none"), asked.loss, passes)

    if extra == "stopped":
        donor = braidlm.build(network.spec, seed=1).network
        asked = replace(asked, run=replace(asked.run, evaluate=1))

        def objective(student: Model) -> BlockRegression:
            return BlockRegression(student, donor)

    trainer = Trainer(asked, network, documents, [pack_of([ids_for(network)[:30]])], world, objective=objective)
    trainer.run(Hooks(stepped=lambda step: losses.append(step.loss)), until=steps)
    losses.append(trainer.evaluate())
    if extra == "stopped":  # and what it has come to
        losses += [float(p.detach().double().sum()) for p in network.blocks[0].parameters()]
    if world.rank == 0:
        (out / f"losses-{world.size}.json").write_text(json.dumps(losses))
    world.leave()
