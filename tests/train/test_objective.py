"""Objectives that a caller gives to the trainer: what they see, what they stop, and how a run with one goes on."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from braidlm.train import training_log
from braidlm.train.config import Config, ParameterGroup
from braidlm.train.loop import Hooks, Trainer
from tests.train.block_regression import STOPPED_AFTER, BlockRegression
from tests.train.packings import OneText, pack_of
from tests.train.runs import config, ids_for, model

FAMILY = "bamba"


def trainer(asked: Config, **options: Any) -> Trainer:
    donor, network = model(FAMILY), model(FAMILY)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.01)
    ids, held_out = ids_for(donor), [pack_of([ids_for(donor)[:30]])]
    donor.compute_dtype = torch.bfloat16
    return Trainer(
        asked, network, OneText(ids), held_out, objective=lambda given: BlockRegression(given, donor, **options)
    )


def ended(asked: Config, **options: Any) -> tuple[list[dict[str, Any]], dict[str, torch.Tensor]]:
    """The log, without times, and the weights of a run that goes to its end."""
    made = trainer(asked, **options)
    made.run()
    weights = {name: p.detach().clone() for name, p in made.model.named_parameters()}
    lines = training_log.read_log(Path(asked.run.out) / training_log.FILE)
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines], weights


def asked_in(out: Path, **changes: Any) -> Config:
    return config(out, **({"evaluate": 1, "checkpoint": 2} | changes))


@pytest.mark.parametrize("frozen", [False, True])
def test_what_is_stopped_stays(frozen: bool, tmp_path: Path) -> None:
    """Oracle: by hand: block 0 stays after its stop, decay and moments with it; the others go on; all are named."""
    made = trainer(asked_in(tmp_path), frozen=frozen)
    made.run(until=STOPPED_AFTER)
    before = {name: p.detach().clone() for name, p in made.model.named_parameters()}
    made.run()
    for name, parameter in made.model.named_parameters():
        inside = name.startswith("blocks.") and not name.startswith("blocks.0.")
        assert torch.equal(parameter, before[name]) != inside, name
    objective = made.objective
    assert objective.begun == [(step, 6) for step in range(6)]
    assert [step for step, _ in objective.seen] == [1, 2, 3, 4, 5, 6]
    log = training_log.read_log(tmp_path / training_log.FILE)
    for step, found in objective.seen:
        (line,) = [line for line in log if "eval_loss" in line and line["step"] == step]
        assert line["eval_loss"] == found["eval_loss"]
        parts = [found[f"eval_block_{index}"] for index in range(len(made.model.blocks))]
        assert sum(parts) == pytest.approx(found["eval_loss"])
    steps = [line for line in log if "loss" in line]
    assert all(sum(line[name] for name in objective.metric_names) == pytest.approx(line["loss"]) for line in steps)


def test_what_is_stopped_stays_when_frozen_groups_are_let_go(tmp_path: Path) -> None:
    """Oracle: by hand: block 0, frozen at first and stopped before its frozen steps end, never moves; block 1 does."""
    late = ParameterGroup(match=("blocks.0.*", "blocks.1.*"), frozen_steps=STOPPED_AFTER + 1)
    asked = asked_in(tmp_path)
    made = trainer(replace(asked, optimizer=replace(asked.optimizer, groups=(late,))), frozen=True)
    before = {name: p.detach().clone() for name, p in made.model.named_parameters()}
    made.run()
    for name, parameter in made.model.named_parameters():
        if name.startswith(("blocks.0.", "blocks.1.")):
            assert torch.equal(parameter, before[name]) == name.startswith("blocks.0."), name
    assert not any(p.requires_grad for p in made.model.blocks[0].parameters())


class KilledError(Exception):
    pass


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("last", [1, 3, 5])
def test_a_killed_run_goes_on(last: int, frozen: bool, tmp_path: Path) -> None:
    """Oracle: the same run without a kill: every line of the log and every weight, bit for bit."""

    def stepped(step: Any) -> None:
        if step.number == last:
            raise KilledError

    asked = asked_in(tmp_path / "killed")
    with pytest.raises(KilledError):
        trainer(asked, frozen=frozen).run(Hooks(stepped=stepped))
    assert_same(ended(asked, frozen=frozen), ended(asked_in(tmp_path / "whole"), frozen=False))


def test_a_run_that_is_stopped_in_an_evaluation(tmp_path: Path) -> None:
    """Oracle: the same run without a signal, though the run is killed after it has made up for the evaluation."""
    asked, signal = asked_in(tmp_path / "stopped", checkpoint=0), []
    made = trainer(asked)
    assert made.run(Hooks(stepped=lambda step: signal.extend([15] * (step.number == 3)), stop=lambda: sum(signal)))
    assert made.step == 3 and not made.objective.stopped

    def stepped(_: Any) -> None:
        raise KilledError

    again = trainer(asked)
    with pytest.raises(KilledError):
        again.run(Hooks(stepped=stepped))
    assert again.objective.stopped == {0}
    assert_same(ended(asked), ended(asked_in(tmp_path / "whole", checkpoint=0)))


def test_a_run_that_is_done(tmp_path: Path) -> None:
    """Oracle: by hand: no step after the one whose evaluation has stopped all, nor when the run goes on."""
    made = trainer(asked_in(tmp_path), end=4)
    assert made.run() == 0 and made.step == 4
    again = trainer(asked_in(tmp_path), end=4)
    assert again.step == 4 and again.run() == 0 and again.step == 4


def assert_same(found: Any, expected: Any) -> None:
    def ordered(lines: list[dict[str, Any]]) -> list[str]:
        return sorted(map(repr, lines))

    assert ordered(found[0]) == ordered(expected[0])
    assert found[1].keys() == expected[1].keys()
    assert all(torch.equal(found[1][name], expected[1][name]) for name in found[1])
