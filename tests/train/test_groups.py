"""Groups of parameters with learning rates of their own, and frozen ones."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import braidlm
from braidlm.adapters import Lora
from braidlm.errors import InputError
from braidlm.train import optim, training_log
from braidlm.train import run as runs
from braidlm.train.config import Config, ParameterGroup, read_config
from braidlm.train.loop import Hooks, Trainer
from braidlm.train.world import World
from tests.families.tiny import tiny
from tests.train.packings import OneText
from tests.train.runs import config, ids_for, losses, model

SLOW = ParameterGroup(match=("blocks.0.*", "embed.*"), lr=0.1, weight_decay=0.5)
REST = ParameterGroup(match=("blocks.*",), lr=2)


def asked_in(out: Path, *chosen: ParameterGroup, **changes: Any) -> Config:
    asked = config(out, **changes)
    return replace(asked, optimizer=replace(asked.optimizer, groups=chosen))


def test_groups() -> None:
    """Oracle: by hand, for each parameter: the first group whose pattern fits its name, decay only where it decays."""
    network = braidlm.build(tiny("bamba", 3)).network.requires_grad_()
    plain = {id(p): group["weight_decay"] for group in optim.groups(network, 0.1) for p in group["params"]}
    found = {
        id(p): (group["factor"], group["weight_decay"])
        for group in optim.groups(network, 0.1, (SLOW, REST))
        for p in group["params"]
    }
    for name, parameter in network.named_parameters():
        slow, block = name.startswith(("blocks.0.", "embed.")), name.startswith("blocks.")
        decay = 0.0 if not plain[id(parameter)] else 0.5 if slow else 0.1
        assert found[id(parameter)] == (0.1 if slow else 2 if block else 1, decay), name


def test_a_step(tmp_path: Path) -> None:
    """Oracle: AdamW's first step by hand: each parameter moves by at most its own rate, what is frozen not at all."""
    frozen = ParameterGroup(match=("blocks.1.*",), lr=0)
    network = model("bamba")
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    asked = asked_in(tmp_path, frozen, replace(SLOW, weight_decay=0), REST, checkpoint=0)
    asked = replace(asked, optimizer=replace(asked.optimizer, weight_decay=0, max_grad_norm=0, lr=0.01))
    Trainer(asked, network, OneText(ids_for(network)), []).run(until=1)
    for name, parameter in network.named_parameters():
        moved = float((parameter - before[name]).detach().abs().max())
        if name.startswith("blocks.1."):
            assert moved == 0, name
        else:
            factor = 0.1 if name.startswith(("blocks.0.", "embed.")) else 2 if name.startswith("blocks.") else 1
            assert moved == pytest.approx(0.005 * factor, rel=0.01), name  # the warm-up's first step of two


def test_same_groups_are_no_groups(tmp_path: Path) -> None:
    """Oracle: the run without groups, loss by loss, where the group asks for what holds anyway."""
    network, same = model("bamba"), ParameterGroup(match=("*",))
    expected = losses(asked_in(tmp_path / "plain"), network, ids_for(network))
    assert losses(asked_in(tmp_path / "same", same), model("bamba"), ids_for(network)) == expected


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters()}


@pytest.mark.parametrize("stop", [2, 4])
def test_frozen_in_the_first_steps(stop: int, tmp_path: Path) -> None:
    """Oracles: by hand, what stays until its step; the same run without a stop, bit for bit."""
    late = ParameterGroup(match=("blocks.0.*",), frozen_steps=3)

    def trainer(name: str) -> Trainer:
        network = model("bamba")
        return Trainer(asked_in(tmp_path / name, late), network, OneText(ids_for(network)), [])

    whole = trainer("whole")
    before = weights(whole)
    whole.run(until=3)
    for name, weight in weights(whole).items():
        assert torch.equal(weight, before[name]) == name.startswith("blocks.0."), name
    whole.run()
    trainer("halved").run(until=stop)
    again = trainer("halved")
    assert again.step == stop
    again.run()
    after, expected = weights(again), weights(whole)
    assert all(torch.equal(after[name], expected[name]) for name in expected)
    assert not any(torch.equal(expected[name], before[name]) for name in expected)
    logs = [training_log.read_log(tmp_path / name / training_log.FILE) for name in ("whole", "halved")]
    assert [line["loss"] for line in logs[0]] == [line["loss"] for line in logs[1]]


def test_adapters(tmp_path: Path) -> None:
    """Oracle: by hand: the adapters of one block are frozen, those of the others learn."""
    network = model("bamba")
    asked = asked_in(tmp_path, ParameterGroup(match=("blocks.0.*",), lr=0), dtype="float32")
    trainer = Trainer(replace(asked, adapter=Lora(rank=2)), network, OneText(ids_for(network)), [])
    before = weights(trainer)
    trainer.run()
    moved = {name for name, weight in weights(trainer).items() if not torch.equal(weight, before[name])}
    assert moved and not any(name.startswith("blocks.0.") for name in moved)


def test_a_base_that_was_changed(place: Path) -> None:
    """Oracles: what is frozen is written as the base has it; other weights in the base's place are refused."""
    quiet = ["run.sample=0", "run.tensorboard=false", "run.checkpoint=2", "stages.0.steps=4", "run.dtype=float32"]
    first = runs.prepare(read_config(place / "run.toml", quiet), World())
    runs.train(first, Hooks())
    runs.finish(first, World())
    base = place / "out" / "model"
    text = (place / "run.toml").read_text()
    further = text[text.index("[data]") :].replace('out = "out"', 'out = "further"')
    groups = '[[optimizer.groups]]\nmatch = ["blocks.0.*"]\nlr = 0\n'
    (place / "further.toml").write_text(f'[model]\ncheckpoint = "{base}"\n{further}{groups}')
    asked = read_config(place / "further.toml", quiet)
    prepared = runs.prepare(asked, World())
    runs.train(prepared, Hooks())
    runs.finish(prepared, World())
    old, new = (braidlm.load(at).network.state_dict() for at in (base, place / "further" / "model"))
    assert all(torch.equal(old[name], new[name]) == name.startswith("blocks.0.") for name in old)
    spoiled = braidlm.load(base)
    with torch.no_grad():
        spoiled.network.blocks[0].mixer.norm.weight += 1
    spoiled.save(place / "changed", "braidlm")
    moved = replace(asked, model=replace(asked.model, checkpoint=str(place / "changed")))
    with pytest.raises(InputError, match=r"model\.checkpoint holds something else than when the run"):
        runs.prepare(moved, World())


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        (ParameterGroup(match=("*", "blok.*"), lr=2), r"optimizer\.groups\.0\.match has the pattern 'blok\.\*'"),
        (ParameterGroup(match=("*",), lr=0), "every parameter the learning rate 0, so that nothing is trained"),
    ],
)
def test_what_is_wrong_is_said(chosen: ParameterGroup, said: str, tmp_path: Path) -> None:
    """Oracle: the sentence, before anything is written."""
    network = model("bamba")
    with pytest.raises(InputError, match=said):
        Trainer(asked_in(tmp_path / "run", chosen), network, OneText(ids_for(network)), [])
    assert not (tmp_path / "run").exists()


def test_settings() -> None:
    """Oracle: the sentences of fields that are out of range."""
    with pytest.raises(InputError, match=r"optimizer\.groups\.match is \[\], but must be at least one pattern"):
        ParameterGroup(match=())
    with pytest.raises(InputError, match=r"optimizer\.groups\.lr is -1, but must be 0 or more"):
        ParameterGroup(match=("*",), lr=-1)
    with pytest.raises(InputError, match=r"optimizer\.groups\.frozen_steps is 2, but must be 0 where lr is 0"):
        ParameterGroup(match=("*",), lr=0, frozen_steps=2)
    with pytest.raises(InputError, match=r"optimizer\.groups\.0\.frozen_steps is 6, but must be below the 6 steps"):
        asked_in(Path("none"), ParameterGroup(match=("blocks.0.*",), frozen_steps=6))


def test_hidden_groups(tmp_path: Path) -> None:
    """Oracles: the sentence; the same groups in the other order are taken."""
    network = model("bamba")
    wide, narrow = ParameterGroup(match=("blocks.*",), lr=2), ParameterGroup(match=("blocks.0.*",), lr=0.5)
    with pytest.raises(InputError, match=r"optimizer\.groups\.1 is hidden by group 0: .* for blocks\.0\."):
        Trainer(asked_in(tmp_path, wide, narrow), network, OneText(ids_for(network)), [])
    Trainer(asked_in(tmp_path, narrow, wide), model("bamba"), OneText(ids_for(network)), [])


def test_sharded_weights(tmp_path: Path) -> None:
    """Oracle: the sentence."""
    asked = asked_in(tmp_path, ParameterGroup(match=("*",), frozen_steps=1))
    network = model("bamba")
    with pytest.raises(InputError, match=r"optimizer\.groups\.0\.frozen_steps is 1, but weights that are sharded"):
        Trainer(asked, network, OneText(ids_for(network)), [], World(0, 2))
