"""Runs that are extended: what was begun stays as planned, and what is refused names its field."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from braidlm.errors import InputError
from braidlm.train import plan
from braidlm.train.config import Config, Schedule, Stage
from braidlm.train.loop import Hooks, Trainer
from tests.train.packings import OneText
from tests.train.runs import config, ids_for, model

A, B = Stage(steps=4, batch_size=2, seq_len=24), Stage(steps=3, batch_size=1, seq_len=40)


def run(
    asked: Config, until: int | None = None, extra_steps: int = 0
) -> tuple[list[float], list[float], list[torch.Tensor]]:
    """Losses and learning rates of the steps that are made, and the weights after them."""
    network = model("mamba2")
    losses, rates = [], []

    def stepped(step: object) -> None:
        losses.append(step.loss)
        rates.append(step.rate)

    packing = OneText(ids_for(network))
    Trainer(plan.resolve_plan(asked, extra_steps), network, packing, []).run(Hooks(stepped), until=until)
    return losses, rates, list(network.parameters())


@pytest.mark.parametrize(
    ("how", "kind"), [("appended", "cosine"), ("longer", "wsd"), ("more", "cosine"), ("stopped", "wsd")]
)
def test_an_extended_run_is_one_planned_so(how: str, kind: str, tmp_path: Path) -> None:
    """Oracle: a run whose stages were planned so from its beginning, with the schedule of the shorter one: losses,
    learning rates and weights, bit for bit.
    """
    schedule = Schedule(kind=kind, warmup=2, decay=0.5)
    first = replace(config(tmp_path / "run", A), schedule=schedule)
    more = replace(A, steps=2)
    stages = (A, more) if how in ("longer", "more") else (A, B)
    asked = replace(first, stages=(replace(A, steps=6),) if how == "longer" else (A,) if how == "more" else stages)
    begun = run(first, until=3 if how == "stopped" else None)
    rest = run(asked, extra_steps=2 if how == "more" else 0)
    calm = replace(first, stages=stages, schedule=replace(schedule, steps=4), run=replace(first.run, out=str(tmp_path)))
    losses, rates, weights = run(calm)
    made = len(begun[0]) - (1 if how == "stopped" else 0)  # the checkpoint is that of step 2
    assert begun[0][:made] + rest[0] == losses and len(losses) == sum(stage.steps for stage in stages)
    assert begun[1][:made] + rest[1] == rates
    assert all(torch.equal(found, wanted) for found, wanted in zip(rest[2], weights, strict=True))


def test_stages_that_are_begun_stay(tmp_path: Path) -> None:
    """Oracle: by hand: what was begun, then what is asked for beyond it; sentences with the field."""
    asked = config(tmp_path, A, B)
    run(asked, until=6)

    def stages(*changed: Stage, extra_steps: int = 0) -> tuple[Stage, ...]:
        return plan.resolve_plan(replace(asked, stages=changed), extra_steps).stages

    assert stages(A, B) == (A, B)
    assert stages(A) == (A, B)  # the second one is begun
    assert stages(A, replace(B, steps=10), A) == (A, B, replace(B, steps=7), A)
    assert stages(A, B, extra_steps=5) == (A, B, replace(B, steps=5))
    for changed, said in (
        ((replace(A, batch_size=4), B), r"stages\.0\.batch_size is 4, .* was begun with 2"),
        ((A, replace(B, seq_len=8)), r"stages\.1\.seq_len is 8, .* was begun with 40"),
        ((replace(A, steps=5), B), r"stages\.0\.steps is 5, .* was begun with 4"),
        ((A, replace(B, steps=2)), r"stages\.1\.steps is 2, .* was begun with 3; .* --export"),
        ((replace(A, steps=3), B), r"stages\.0\.steps is 3, .* was begun with 4"),
    ):
        with pytest.raises(InputError, match=said):
            stages(*changed)


def test_a_stage_that_is_not_begun_may_change(tmp_path: Path) -> None:
    """Oracle: by hand; the schedule stays that of the seven steps that were planned."""
    asked = config(tmp_path, A, B)
    run(asked, until=4)
    resolved = plan.resolve_plan(replace(asked, stages=(A, replace(B, batch_size=2), B)))
    assert resolved.stages == (A, replace(B, batch_size=2), B)
    assert resolved.schedule.steps == 7
    assert plan.resolve_plan(replace(asked, stages=(A,))).stages == (A,)


def test_the_learning_rate_of_steps_that_were_made_stays(tmp_path: Path) -> None:
    """Oracle: by hand: a decay that has not begun may be moved; a warm-up that is over may not be changed."""
    wsd = Schedule(kind="wsd", warmup=2, decay=0.25)
    asked = replace(config(tmp_path, replace(A, steps=8)), schedule=wsd)
    run(asked, until=4)
    later = plan.resolve_plan(replace(asked, stages=(replace(A, steps=80),), schedule=replace(wsd, steps=80)))
    assert (later.schedule.steps, later.steps) == (80, 80)
    for changed, said in (
        (replace(wsd, warmup=3), r"schedule\.warmup is 3, .* was begun with 2"),
        (replace(wsd, steps=3), r"schedule\.steps is 3, .* was begun with 8"),
    ):
        with pytest.raises(InputError, match=said):
            plan.resolve_plan(replace(asked, schedule=changed))
    with pytest.raises(InputError, match=r"steps after 8 have the learning rate 0, since schedule\.final is 0"):
        plan.resolve_plan(replace(asked, schedule=replace(wsd, final=0.0)), 2)


def test_other_fields(tmp_path: Path) -> None:
    """Oracle: what makes other steps is refused by its field; how a run is carried out may change."""
    asked = config(tmp_path, A)
    run(asked, until=2)
    for changed, said in (
        (replace(asked, optimizer=replace(asked.optimizer, lr=0.5)), r"optimizer\.lr is 0\.5, .* was begun with 0\.01"),
        (replace(asked, run=replace(asked.run, dtype="float32")), r"run\.dtype is 'float32', .* with 'bfloat16'"),
        (replace(asked, run=replace(asked.run, seed=1)), r"run\.seed is 1"),
        (replace(asked, data=replace(asked.data, seed=1)), r"data\.seed is 1"),
    ):
        with pytest.raises(InputError, match=said):
            plan.resolve_plan(changed)
    carried_out = replace(asked.run, checkpoint=7, keep=1, evaluate=3, parallelism="ddp")
    data = replace(asked.data, shards="moved", eval_tokens=5)
    plan.resolve_plan(replace(asked, run=carried_out, data=data))
