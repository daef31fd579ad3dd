"""Distillation: a model, an adapter or an initial state that learns from a teacher."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from typer.testing import CliRunner

import braidlm
from braidlm.adapters import Lora, StateTuning
from braidlm.cli.main import app
from braidlm.errors import InputError
from braidlm.model.model import Model
from braidlm.ops import Segments
from braidlm.train import run as runs
from braidlm.train import training_log
from braidlm.train.config import Config, Loss, Teacher, read_config
from braidlm.train.distillation import DistillationObjective
from braidlm.train.loop import Hooks, Trainer
from braidlm.train.world import World
from tests.families.tiny import tiny
from tests.tolerances import RELATIVE_GRADIENT
from tests.train.packings import OneText, pack_of, random_documents
from tests.train.runs import config, double, ids_for, model

ASKED = Teacher(checkpoint="none", temperature=2.0, cross_entropy=0.25)


def teacher_of(dtype: torch.dtype = torch.float32) -> Model:
    """A model of the students' shape with other weights."""
    return braidlm.build(tiny("bamba", 3), seed=1, dtype=str(dtype).removeprefix("torch.")).network


def test_the_loss() -> None:
    """Oracle: kl_div and cross_entropy over whole logits of both models, each document by itself, in float64."""
    student, teacher = double("bamba"), teacher_of(torch.float64)
    objective = DistillationObjective(student, teacher, ASKED, Loss(chunk=5))
    texts = random_documents(student.spec.vocab, (7, 1, 33, 12))
    made = objective(pack_of(texts))
    loss, kl, agreed = torch.zeros(3, dtype=torch.float64)
    for text in texts:
        ids = torch.tensor(text)
        s, t = (m(ids, Segments((len(ids),)), m.training_state(1)).logits[:-1] for m in (student, teacher))
        logq, logp = F.log_softmax(s / 2, -1), F.log_softmax(t / 2, -1)
        kl = kl + F.kl_div(logq, logp, log_target=True, reduction="sum")
        loss = loss + 0.25 * F.cross_entropy(s, ids[1:], reduction="sum")
        agreed = agreed + (s.argmax(-1) == t.argmax(-1)).sum()
    loss = loss + 0.75 * 4 * kl
    torch.testing.assert_close(made.loss, loss)
    torch.testing.assert_close(made.metrics, torch.stack([kl, agreed]).detach())
    found = torch.autograd.grad(made.loss, list(student.parameters()))
    for one, wanted in zip(found, torch.autograd.grad(loss, list(student.parameters())), strict=True):
        assert (one - wanted).abs().max() <= RELATIVE_GRADIENT * wanted.abs().max().clamp_min(1)
    assert not [name for name, _ in objective.named_parameters() if "teacher" in name]


def trainer(asked: Config) -> Trainer:
    teacher = teacher_of()
    ids = ids_for(teacher)

    def objective(student: Any) -> DistillationObjective:
        return DistillationObjective(student, teacher, ASKED, asked.loss)

    packing = OneText(ids, cuts=(13, 27))  # of which some begin and some go on
    return Trainer(asked, model("bamba"), packing, [pack_of([ids[:30]])], objective=objective)


WAYS = {
    "full": {},
    "adapter": {"adapter": Lora(rank=2)},
    "state": {"initial_state": StateTuning()},
}


@pytest.mark.parametrize("way", WAYS)
def test_a_stopped_run_goes_on_bit_for_bit(way: str, tmp_path: Path) -> None:
    """Oracle: the same run without a stop, both models' states carried: every loss and metric; and it learns."""

    def asked(name: str) -> Config:
        return replace(config(tmp_path / name, carry_state=True, evaluate=3), **WAYS[way])

    trainer(asked("whole")).run()
    trainer(asked("halved")).run(until=4)
    again = trainer(asked("halved"))
    assert again.step == 4 and len(again._carried[0]) == 2
    again.run()
    logs = [training_log.read_log(tmp_path / name / training_log.FILE) for name in ("whole", "halved")]
    whole, halved = [[{k: v for k, v in line.items() if k != "seconds"} for line in log] for log in logs]
    assert whole == halved
    eval_kls = [line["eval_kl"] for line in whole if "eval_kl" in line]
    assert eval_kls[-1] < eval_kls[0]
    assert all(0 <= line["agreement"] <= 1 for line in whole if "loss" in line)


def test_a_carried_state_of_the_teacher(tmp_path: Path) -> None:
    """Oracle: the document in one piece: the sums of its pieces, each model going on with its own state."""
    student, teacher = double("bamba"), teacher_of(torch.float64)
    objective = DistillationObjective(student, teacher, ASKED, Loss())
    (text,) = random_documents(student.spec.vocab, (50,))
    whole = objective(pack_of([text]))
    first = pack_of([text[:20]])._replace(targets_T=torch.tensor(text[1:21]))
    begun = objective(first, carry=True)
    rest = objective(pack_of([text[20:]]), begun.after)
    torch.testing.assert_close(begun.loss + rest.loss, whole.loss)
    torch.testing.assert_close(begun.metrics + rest.metrics, whole.metrics)


def test_from_the_command_line(place: Path) -> None:
    """Oracles: eval_kl falls and its last value is in the card; sentences for a teacher that cannot be one."""
    quiet = ["--set", "run.sample=0", "--set", "run.tensorboard=false"]
    CliRunner().invoke(app, ["train", str(place / "run.toml"), *quiet], catch_exceptions=False)
    learned = ["--set", "teacher.checkpoint=out/model", "--set", "run.out=small", "--set", "model.seed=1"]
    found = CliRunner().invoke(app, ["train", str(place / "run.toml"), *quiet, *learned], catch_exceptions=False)
    assert found.exit_code == 0 and "agreement: 0." in found.output
    kls = [line["eval_kl"] for line in training_log.read_log(place / "small" / "log.jsonl") if "eval_kl" in line]
    assert len(kls) == 3 and kls[-1] < kls[0]
    card = (place / "small" / "model" / "README.md").read_text()
    assert f"| kl | {kls[-1]:.4f} |" in card and "| teacher | " in card
    with pytest.raises(InputError, match=r"loss\.z_loss is 0.1, but must be 0 where a teacher"):
        read_config(place / "run.toml", [learned[1], "loss.z_loss=0.1"])
    other = braidlm.build(tiny("bamba", 3))
    other.save(place / "other", "braidlm")
    asked = read_config(place / "run.toml", ["teacher.checkpoint=other", "run.out=refused"])
    vocab = other.spec.vocab
    with pytest.raises(InputError, match=f"has a vocabulary of {vocab} tokens, the model of 300"):
        runs.prepare(asked, World())
    file = place / "out" / "model" / "tokenizer.json"
    file.write_text(file.read_text().replace('"<e>"', '"<f>"'))
    with pytest.raises(InputError, match="has another tokenizer than the model"):
        runs.prepare(read_config(place / "run.toml", [learned[1], "run.out=refused"]), World())
    assert not (place / "refused").exists()


def test_another_teacher_is_refused(place: Path) -> None:
    """Oracle: the sentence, where other weights lie at the teacher's path than when the run began."""
    student = read_config(place / "run.toml", ["run.sample=0", "run.tensorboard=false"])
    runs.train(first := runs.prepare(replace(student, stages=(replace(student.stages[0], steps=2),)), World()), Hooks())
    runs.finish(first, World())
    changes = ["teacher.checkpoint=out/model", "run.out=small", "stages.0.steps=4", "run.checkpoint=2", "run.sample=0"]
    asked = read_config(place / "run.toml", [*changes, "run.tensorboard=false"])
    runs.prepare(asked, World()).trainer.run(until=2)
    spoiled = braidlm.load(place / "out" / "model")
    with torch.no_grad():
        spoiled.network.embed.weight[0, 0] += 1
    spoiled.save(place / "changed", "braidlm")
    (place / "out" / "model").rename(place / "moved")
    (place / "changed").rename(place / "out" / "model")
    with pytest.raises(InputError, match=r"teacher\.checkpoint holds something else than when the run"):
        runs.prepare(asked, World())
    moved = replace(asked, teacher=replace(asked.teacher, checkpoint=str(place / "moved")))
    assert runs.prepare(moved, World()).trainer.step == 2
