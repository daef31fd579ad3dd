"""Measuring of a report: every number is that of the functions of `eval`, and a killed measuring goes on."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from braidlm.errors import CheckpointError, InputError
from braidlm.eval.divergence import divergence
from braidlm.eval.generation import generation, prompts
from braidlm.eval.item_maker import ItemMaker
from braidlm.eval.likelihood import likelihood
from braidlm.eval.recall import recall
from braidlm.eval.tasks import items
from braidlm.graft.report.measure import measure
from braidlm.graft.report.settings import Report
from braidlm.graft.report.speed import ratios
from braidlm.graft.report.subjects import Subjects
from tests.graft.report.subjects import SMALL, small_model, small_subjects, small_texts

EXACT = replace(SMALL, parts=("text", "recall", "generation", "state", "answers"))


@pytest.fixture(scope="module")
def subjects() -> Subjects:
    return small_subjects()


@pytest.fixture(scope="module")
def measured(subjects: Subjects, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    place = tmp_path_factory.mktemp("report") / "measured.json"
    return measure(subjects, small_texts(subjects.donor), SMALL, place)


def test_likelihood_and_divergence(subjects: Subjects, measured: dict[str, Any]) -> None:
    """Oracle: `likelihood` and `divergence` of the first 80 tokens; a text of one token has nothing to predict."""
    first, _, last = small_texts(subjects.donor)
    texts = [first, last[:30]]
    found, own = divergence(subjects.graft, subjects.donor, texts), likelihood(subjects.donor, texts)
    graft, donor = measured["text"]["graft"], measured["text"]["donor"]
    assert {name: graft[name] for name in found.whole._asdict()} == found.whole._asdict()
    assert graft["buckets"] == [bucket._asdict() for bucket in found.buckets]
    assert {name: donor[name] for name in own.whole._asdict()} == own.whole._asdict()
    assert graft["perplexity"] == likelihood(subjects.graft, texts).whole.perplexity
    assert graft["reference_perplexity"] == donor["perplexity"]


def test_recall(subjects: Subjects, measured: dict[str, Any]) -> None:
    """Oracle: `recall` of the same task, length and depths."""
    maker = ItemMaker(subjects.graft.tokenizer, subjects.graft.spec.vocab)
    expected = recall(subjects.graft, list(items("needle", maker, 128, 2, depths=(0.0, 1.0))))
    (found,) = measured["recall"]["graft"]
    assert (found["task"], found["length"]) == ("needle", 128)
    assert (found["exact"], found["nats"]) == (expected.whole.exact, expected.whole.nats)
    assert [(one["depth"], one["nats"]) for one in found["depths"]] == [
        (depth, score.nats) for depth, score in expected.by_depth.items()
    ]


def test_generation_and_answers(subjects: Subjects, measured: dict[str, Any]) -> None:
    """Oracle: `generation` of the same prompts, and the text that `generate` gives after a prompt."""
    expected = generation(subjects.graft, prompts(4), max_tokens=6)
    found = measured["generation"]["graft"]
    assert (found["answers"], found["passed"]) == (4, expected.whole.passed)
    assert set(found["kinds"]) == set(expected.by_kind)
    asked = "Question: One\nAnswer:"
    alone = subjects.graft.generate(asked, max_tokens=6, stop=("\nQuestion:",))
    first = measured["answers"]["graft"]["answers"][0]
    assert first == {"prompt": "One", "answer": alone}


def test_state_and_speed(subjects: Subjects, measured: dict[str, Any]) -> None:
    """Oracle: bytes of a state that has read as many tokens; as many rates as rounds; declared lengths."""
    state = subjects.graft.new_state()
    subjects.graft.forward(torch.zeros(1, 200, dtype=torch.int64), state=state)
    fitting, beyond = measured["state"]["graft"]
    assert fitting == {"length": 200, "bytes": state.nbytes}
    assert beyond["length"] == 300 and "256" in beyond["left_out"]
    fitting, beyond = measured["speed"]
    assert all(len(rates) == 2 and min(rates) > 0 for rates in fitting["rates"].values())
    assert set(fitting["rates"]) == {"donor", "graft", "window_control"} and not fitting["left_out"]
    assert not beyond["rates"] and set(beyond["left_out"]) == {"donor", "graft", "window_control"}


def test_ratios_are_of_one_round() -> None:
    """Oracle: ratios by hand."""
    rates = {"graft": [2.0, 9.0, 4.0], "donor": [1.0, 3.0, 4.0], "none": []}
    assert ratios(rates, "graft", "donor") == {"median": 2.0, "least": 1.0, "most": 3.0}
    assert ratios(rates, "graft", "none") is None and ratios(rates, "graft", "donor_trained") is None


def test_missing_subjects_are_told(measured: dict[str, Any]) -> None:
    """Oracle: the subjects as they were given."""
    assert measured["subjects"]["donor_trained"] is None and measured["subjects"]["graft"] == "graft"
    assert set(measured["text"]) == {"donor", "window_control", "graft"}


def test_a_killed_measuring_goes_on(subjects: Subjects, tmp_path: Path) -> None:
    """Oracle: the file and the result of a measuring that nothing has disturbed."""
    texts, whole, killed = small_texts(subjects.donor), tmp_path / "whole.json", tmp_path / "killed.json"
    expected = measure(subjects, texts, EXACT, whole)
    told = list[str]()

    def tell(text: str) -> None:
        told.append(text)
        if len(told) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(subjects, texts, EXACT, killed, tell)
    assert len(json.loads(killed.read_text())) == 4
    assert measure(subjects, texts, EXACT, killed, tell) == expected
    assert killed.read_bytes() == whole.read_bytes()
    count = len(told)
    measure(subjects, texts, EXACT, killed, tell)
    assert len(told) == count, "what is in the file stands"


def test_other_inputs_are_measured_again(subjects: Subjects, tmp_path: Path) -> None:
    """Oracle: the measurements that depend on what has changed, and no other."""
    texts, place, told = small_texts(subjects.donor), tmp_path / "measured.json", list[str]()
    few = replace(EXACT, parts=("text", "recall"))
    measure(subjects, texts, few, place)
    measure(subjects, texts, replace(few, haystacks=1), place, told.append)
    assert [text.split()[1] for text in told] == ["recall"] * 3
    told.clear()
    other = subjects._replace(graft=small_model(window=16))
    measure(other, texts, replace(few, haystacks=1), place, told.append)
    assert [text.split()[1:3] for text in told] == [["text", "graft"], ["recall", "graft"]]


def test_a_diverged_model_is_measured(subjects: Subjects, tmp_path: Path) -> None:
    """Oracle: null, as JSON has no NaN, also when the file is read again."""
    broken = small_model()
    broken.network.embed.weight.fill_(float("nan"))
    few, texts = replace(EXACT, parts=("text",)), small_texts(broken)
    for _ in range(2):
        found = measure(subjects._replace(graft=broken), texts, few, tmp_path / "measured.json")
        assert found["text"]["graft"]["perplexity"] is None and found["text"]["donor"]["perplexity"] > 1


def test_what_a_model_cannot_do_is_left_out(tmp_path: Path) -> None:
    """Oracle: the reason, for a model without a tokenizer."""
    mute = small_model()
    mute.tokenizer = None
    found = measure(Subjects(mute, mute), small_texts(mute), replace(SMALL, parts=("generation",)), tmp_path / "m.json")
    assert "no tokenizer" in found["generation"]["graft"]["left_out"]


def test_wrong_inputs_are_refused(subjects: Subjects, tmp_path: Path) -> None:
    """Oracle: the message names the setting or the file."""
    for wrong in ({"parts": ("text", "taste")}, {"recall_depths": (2.0,)}, {"recall_tasks": ("nose",)}):
        with pytest.raises(InputError, match=f"report.{next(iter(wrong))}"):
            Report(**wrong)
    with pytest.raises(InputError, match=r"report.lengths.*above report.speed_tokens"):
        Report(lengths=(20,))
    with pytest.raises(InputError, match="no held-out text"):
        measure(subjects, [], SMALL, tmp_path / "measured.json")
    place = tmp_path / "measured.json"
    place.write_text('{"text graft": 1}')
    with pytest.raises(CheckpointError, match="remove it to measure again"):
        measure(subjects, small_texts(subjects.donor), SMALL, place)
