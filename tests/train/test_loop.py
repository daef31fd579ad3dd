"""Whole runs: what they learn, how they go on, and how they stop."""

import math
from pathlib import Path

import pytest
import torch

from braidlm.errors import CheckpointError, InputError, TrainingError
from braidlm.train import training_log
from braidlm.train.config import Stage
from braidlm.train.loop import Hooks, Trainer
from braidlm.train.world import World
from tests.families.tiny import TINY
from tests.train.packings import OneText, pack_of
from tests.train.runs import config, ids_for, losses, model


@pytest.mark.parametrize("carry", [False, True])
@pytest.mark.parametrize("family", TINY)
def test_a_stopped_run_goes_on_bit_for_bit(family: str, carry: bool, tmp_path: Path) -> None:
    """Oracle: the same run without a stop: every loss and every weight, bit for bit."""
    asked = config(tmp_path / "whole", carry_state=carry)
    network = model(family)
    ids = ids_for(network)
    whole = losses(asked, network, ids)

    class StopError(Exception):
        pass

    def stop(step: object) -> None:
        begun.append(step.loss)
        if step.number == 5:
            raise StopError

    begun: list[float] = []
    halved = config(tmp_path / "halved", carry_state=carry)
    with pytest.raises(StopError):
        Trainer(halved, model(family), OneText(ids), []).run(Hooks(stepped=stop))
    again = model(family)
    rest = losses(halved, again, ids)
    assert begun[:4] + rest == whole  # the checkpoint of step 4 was the last one
    for (name, found), wanted in zip(again.named_parameters(), network.parameters(), strict=True):
        assert torch.equal(found, wanted), name
    told = [line["loss"] for line in training_log.read_log(tmp_path / "halved" / "log.jsonl")]
    assert told == whole


def test_stages_and_evaluations(tmp_path: Path) -> None:
    """Oracle: by hand: steps of both stages with their tokens, an evaluation every second step, two checkpoints."""
    network = model("mamba2")
    ids = ids_for(network)
    asked = config(
        tmp_path, Stage(steps=3, batch_size=2, seq_len=16), Stage(steps=2, batch_size=1, seq_len=64), evaluate=2
    )
    eval_packs = [pack_of([ids[:50], ids[50:60]])]
    trainer = Trainer(asked, network, OneText(ids), eval_packs)
    before = trainer.evaluate()
    trainer.run()
    log = training_log.read_log(tmp_path / "log.jsonl")
    assert [line["tokens"] for line in log if "loss" in line] == [32, 32, 32, 64, 64]
    assert [line["step"] for line in log if "eval_loss" in line] == [2, 4, 5]
    assert log[-1]["eval_loss"] == trainer.evaluate() < before
    assert sorted(place.name for place in (tmp_path / "checkpoints").iterdir()) == ["step-00000004", "step-00000005"]


def test_wrong_runs(tmp_path: Path) -> None:
    """Oracle: sentences: a batch that cannot be shared, another configuration, a damaged checkpoint."""
    network = model("mamba2")
    packing = OneText(ids_for(network))
    asked = config(tmp_path)
    with pytest.raises(InputError, match="a batch of 2 sequences cannot be shared evenly by 3 processes"):
        Trainer(asked, network, packing, [], World(0, 3))
    Trainer(asked, network, packing, []).run()
    other = config(tmp_path, Stage(steps=6, batch_size=2, seq_len=20))
    with pytest.raises(InputError, match=r"stages\.0\.seq_len is 20, but the run of .* was begun with 40"):
        Trainer(other, network, packing, [])
    last = tmp_path / "checkpoints" / "step-00000006"
    with pytest.raises(CheckpointError, match="is damaged or belongs to another model"):
        Trainer(asked, model("mamba"), packing, [])
    for file in last.glob("*.distcp"):
        file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="is damaged or belongs to another model"):
        Trainer(asked, network, packing, [])


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_numbers_that_are_not_finite(where: str, tmp_path: Path) -> None:
    """Oracle: the block that was spoiled, and the document, are named, after the steps that may be left out."""
    network = model("mamba2")
    packing = OneText(ids_for(network))
    trainer = Trainer(config(tmp_path, skips=2), network, packing, [])
    if where == "forward":
        with torch.no_grad():
            network.blocks[1].mixer.norm.weight[0] = math.nan
        said = r"at step 3 the loss is not finite: the output of blocks.1 is the first .* documents are 0"
    else:
        network.blocks[1].mixer.norm.weight.register_hook(lambda grad: grad * math.nan)
        said = r"at step 3 gradients are not finite: .* blocks.1.mixer.norm.weight nearest .* documents are 0"
    with pytest.raises(TrainingError, match=said):
        trainer.run()
    skipped = [line for line in training_log.read_log(tmp_path / "log.jsonl") if "skipped" in line]
    assert [line["step"] for line in skipped] == [1, 2]


def test_a_document_that_outgrows_the_model(tmp_path: Path) -> None:
    """Oracle: a sentence, at the step where the carried state has come to the last position."""
    network = model("llama")
    limit = network.spec.max_positions
    asked = config(tmp_path, Stage(steps=8, batch_size=1, seq_len=limit // 4 + 1), carry_state=True, checkpoint=0)
    with pytest.raises(InputError, match=f"document 0 has reached .* more than the {limit} positions"):
        losses(asked, network, ids_for(network))
