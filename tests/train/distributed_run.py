"""One process of a run over several: `torchrun distributed_run.py FAMILY OUT SPREAD STEPS`; writes its losses."""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from braidlm.train.config import Stage
from braidlm.train.loop import Hooks, Trainer
from braidlm.train.world import join
from tests.train.orders import OneText
from tests.train.test_loop import config, ids_for, model


def main(family: str, out: str, spread: str, steps: str) -> None:
    torch.set_num_threads(1)
    world, network, losses = join("cpu"), model(family), []
    asked = config(Path(out), Stage(steps=6, lanes=2, tokens=40), dtype="float32", spread=spread, carry_state=True)
    trainer = Trainer(asked, network, OneText(ids_for(network)), [], world)
    trainer.run(Hooks(stepped=lambda step: losses.append(step.loss)), until=int(steps))
    if world.rank == 0:
        Path(out, f"losses-{world.size}.json").write_text(json.dumps(losses))
    if world.size > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
