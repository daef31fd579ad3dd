"""Room for documents: in the positions of the model and of its teacher, in training and in evaluations."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import braidlm
from braidlm.errors import InputError
from braidlm.model.model import Model
from braidlm.train.config import Loss, Stage, Teacher
from braidlm.train.data.pack import Pack
from braidlm.train.distillation import DistillationObjective
from braidlm.train.language_model import LanguageModelObjective
from braidlm.train.loop import Trainer
from braidlm.train.room import cut_to_room, require_room
from tests.families.tiny import tiny
from tests.train.packings import OneText, pack_of
from tests.train.runs import config, ids_for

_LIMIT = 24


def model(limit: int | None) -> Model:
    return braidlm.build(replace(tiny("llama", 3), max_positions=limit), seed=1).network


def distilled(limit: int | None, teacher: int | None) -> DistillationObjective:
    return DistillationObjective(model(limit), model(teacher), Teacher(checkpoint="none"), Loss())


def test_the_model_that_has_no_room_is_named() -> None:
    """Oracle: by hand: the longest document, and the model whose positions it outgrows."""
    pack = pack_of([range(20), range(30), range(5)], numbers=(7, 8, 9))
    require_room(distilled(30, None), pack)
    with pytest.raises(InputError, match="document 8 has reached 30 tokens, more than the 29 positions of the model;"):
        require_room(distilled(29, 30), pack)
    with pytest.raises(InputError, match="document 8 has reached 30 tokens, more than the 29 positions of the teacher"):
        require_room(distilled(None, 29), pack)


def test_carried_documents_of_a_teacher(tmp_path: Path) -> None:
    """Oracle: the sentence, at the step where the carried document has come to the teacher's last position."""
    student, teacher = model(None), model(_LIMIT)
    asked = config(tmp_path, Stage(steps=8, batch_size=1, seq_len=_LIMIT // 2), carry_state=True, checkpoint=0)

    def objective(given: Model) -> DistillationObjective:
        return DistillationObjective(given, teacher, Teacher(checkpoint="none"), asked.loss)

    trainer = Trainer(asked, student, OneText(ids_for(student)), [], objective=objective)
    with pytest.raises(InputError, match=rf"has reached 36 tokens, more than the {_LIMIT} positions of the teacher"):
        trainer.run()
    assert trainer.step == 2


def test_evaluations_are_cut(tmp_path: Path) -> None:
    """Oracle: by hand: pieces of at most the least number of positions; the loss of those pieces as documents."""
    pack = pack_of([range(50), range(24), range(3)])
    assert cut_to_room(distilled(None, None), pack) == pack
    assert cut_to_room(distilled(30, 24), pack).lengths == (24, 24, 2, 24, 3)
    assert cut_to_room(distilled(24, 30), pack).documents == (0, 0, 0, 1, 2)
    network = model(_LIMIT)
    ids = torch.tensor(ids_for(network)[:61])
    long = Pack(ids[:-1], ids[1:], (60,), False, (0,))
    trainer = Trainer(config(tmp_path), network, OneText(ids.tolist()), [long])
    with torch.no_grad():
        sums = LanguageModelObjective(network, Loss())(long._replace(lengths=(24, 24, 12), documents=(0, 0, 0)))
    assert trainer.evaluate() == pytest.approx(float(sums.plain) / 60)
