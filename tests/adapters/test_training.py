"""The training loop with a frozen model: what moves, what is kept, how a run goes on."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from braidlm.adapters import Lora, StateTuning
from braidlm.adapters.targets import target_weights
from braidlm.errors import InputError
from braidlm.model.model import Model
from braidlm.quant.policy import quantize
from braidlm.train.config import Config, Stage, read_config
from braidlm.train.loop import Hooks, Trainer
from braidlm.train.world import World
from tests.adapters.models import small
from tests.train.packings import OneText
from tests.train.runs import config, ids_for

WAYS = {
    "lora": {"adapter": Lora(rank=2)},
    "dora": {"adapter": Lora(rank=2, target_modules=("in_proj",), dora=True, dropout=0.1)},
    "state": {"initial_state": StateTuning()},
    "both": {"adapter": Lora(rank=2, target_modules=("in_proj",)), "initial_state": StateTuning()},
}


def losses(asked: Config, network: Model, until: int | None = None) -> list[float]:
    """Of each step."""
    found: list[float] = []
    trainer = Trainer(asked, network, OneText(ids_for(network)), [])
    trainer.run(Hooks(stepped=lambda step: found.append(step.loss)), until=until)
    return found


@pytest.mark.parametrize(("way", "packed"), [("lora", False), ("dora", True), ("state", False), ("both", True)])
def test_only_what_is_attached_is_trained(way: str, packed: bool, tmp_path: Path) -> None:
    """Oracle: the model before, bit for bit, and its fingerprint; a loss that falls; a stopped run's going on."""
    network, again = small("mamba2", torch.bfloat16), small("mamba2", torch.bfloat16)
    if packed:
        quantize(network, "int8")
        quantize(again, "int8")
    before = network.weights.base_fingerprint()
    asked = replace(config(tmp_path / "whole", dtype="bfloat16", activation_checkpointing=True), **WAYS[way])
    whole = losses(asked, network)
    assert whole[-1] < whole[0]
    assert network.weights.base_fingerprint() == before
    halved = replace(asked, run=replace(asked.run, out=str(tmp_path / "halved")))
    begun = losses(halved, again, until=4)
    again = small("mamba2", torch.bfloat16)
    if packed:
        quantize(again, "int8")
    assert begun + losses(halved, again) == whole
    assert again.weights.fingerprint() == network.weights.fingerprint()


def test_head_and_router(tmp_path: Path) -> None:
    """Oracle: parameters that have moved: those of the head and of routers too."""
    network = small("granitemoehybrid", torch.float32)
    targets = tuple(p.name for p in target_weights(network) if p.name in ("head", "embed") or p.leaf == "router")
    assert "head" in targets or network.head is None
    asked = replace(
        config(tmp_path, Stage(steps=1, batch_size=1, seq_len=40)), adapter=Lora(rank=2, target_modules=targets)
    )
    losses(asked, network)
    moved = [name for name, adapter in network.named_adapters() if bool((adapter.up != 0).any())]  # type: ignore[operator]
    assert len(moved) == len(targets)


def test_sharded_is_refused(tmp_path: Path) -> None:
    """Oracle: one sentence that says what would be right."""
    asked = replace(config(tmp_path), adapter=Lora())
    with pytest.raises(InputError, match="ddp"):
        Trainer(asked, small("mamba", torch.float32), OneText([1, 2, 3]), [], World(size=2))


def test_config_tables(tmp_path: Path) -> None:
    """Oracle: the tables of the file."""
    file = tmp_path / "run.toml"
    file.write_text(
        'model = {preset = "none"}\ndata = {shards = "d"}\noptimizer = {lr = 1e-3}\nrun = {out = "o"}\n'
        "stages = [{steps = 1, batch_size = 1, seq_len = 9}]\n"
        'adapter = {rank = 4, target_modules = ["in_proj"], dora = true}\ninitial_state = {states = ["ssm"]}\n'
    )
    found = read_config(file)
    assert found.adapter == Lora(rank=4, target_modules=("in_proj",), dora=True)
    assert found.initial_state == StateTuning(states=("ssm",))
    with pytest.raises(InputError, match="rank"):
        read_config(file, ["adapter.rank=0"])


def test_evaluation_sees_every_step(tmp_path: Path) -> None:
    """Oracle: the learned prefix run anew: what is remembered of weights is forgotten when a step changes them."""
    network = small("hymba", torch.float32)
    trainer = Trainer(config(tmp_path, dtype="float32"), network, OneText(ids_for(network)), [])
    with torch.no_grad():
        network.training_state(1)
    trainer.run(until=2)
    with torch.no_grad():
        remembered = network.training_state(1).sequences[0].layers[0].recurrent
        network._versions.cached.clear()
        fresh = network.training_state(1).sequences[0].layers[0].recurrent
    assert all(torch.equal(remembered[name], fresh[name]) for name in fresh)
