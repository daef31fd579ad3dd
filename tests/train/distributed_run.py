"""One process of a run over several, which writes its losses."""

import json
from dataclasses import replace
from pathlib import Path

import torch

from braidlm.adapters import Lora
from braidlm.train.config import Stage
from braidlm.train.loop import Hooks, Trainer
from braidlm.train.world import join
from tests.train.packings import OneText, pack_of
from tests.train.runs import config, ids_for, model


def train(family: str, out: Path, parallelism: str, steps: int, context_parallel: int, packing: str) -> None:
    """Documents go on from pack to pack with their state ("carried"), or are cut ("cut").

    A family may be "bamba+lora": the attention blocks' outputs alone are adapted.
    """
    torch.set_num_threads(1)
    family, _, adapted = family.partition("+")
    network, losses = model(family), []
    world, carry = join("cpu", context_parallel), packing == "carried"
    run = {"dtype": "float32", "parallelism": parallelism, "context_parallel": context_parallel, "carry_state": carry}
    asked = config(out, Stage(steps=6, batch_size=2, seq_len=40), **run)
    if adapted:
        asked = replace(asked, adapter=Lora(rank=2, target_modules=("o_proj",)))
    documents = OneText(ids_for(network), () if carry else (13, 20, 27))
    trainer = Trainer(asked, network, documents, [pack_of([ids_for(network)[:30]])], world)
    trainer.run(Hooks(stepped=lambda step: losses.append(step.loss)), until=steps)
    losses.append(trainer.evaluate())
    if world.rank == 0:
        (out / f"losses-{world.size}.json").write_text(json.dumps(losses))
    world.leave()
