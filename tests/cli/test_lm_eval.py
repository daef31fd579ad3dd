"""`braid lm-eval`: a task over a local file through lm-eval's own command line, and its refusals."""

import functools
import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import braidlm
from braidlm.checkpoints import embedded
from braidlm.errors import InputError, UnavailableError
from tests.cli.commands import braid

pytest.importorskip("lm_eval", reason="lm-eval is not installed (pip install '.[eval]')")

from lm_eval.tasks import TaskManager

from braidlm.eval.lm_eval_command import asked_tasks

EXAMPLES = Path(__file__).parents[2] / "examples" / "lm_eval"


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """lm-eval without its own tasks, which take many seconds to list, in a directory with the example's."""
    monkeypatch.setattr("lm_eval.tasks.TaskManager", functools.partial(TaskManager, include_defaults=False))
    monkeypatch.setattr("lm_eval.__main__.setup_logging", lambda: None)
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    shutil.copytree(EXAMPLES, tmp_path / "examples" / "lm_eval")
    file = tmp_path / "examples" / "lm_eval" / "reading.yaml"
    file.write_text(file.read_text().replace("dataset_kwargs:", f"dataset_kwargs:\n  cache_dir: {tmp_path / 'cache'}"))
    monkeypatch.chdir(tmp_path)


def best(model: Any, question: str, choices: list[str]) -> int:
    """The choice with the greatest log-likelihood after a question, each in a pass of its own."""
    likelihoods = []
    for choice in choices:
        ids = model.encode(f"{question} {choice}")
        begin = len(model.encode(question))
        logs = model.forward([ids])[0].double().log_softmax(-1)[begin - 1 : -1]
        likelihoods.append(sum(float(row[token]) for row, token in zip(logs, ids[begin:], strict=True)))
    return likelihoods.index(max(likelihoods))


@pytest.mark.usefixtures("harness")
def test_a_local_task(tmp_path: Path) -> None:
    """Oracle: the choice of each question by whole passes of the model; lm-eval's own result file."""
    arguments = ("--model", "braid", "--model_args", f"pretrained={embedded.NAME},dtype=float32")
    task = ("--tasks", "examples/lm_eval/reading.yaml", "--output_path", str(tmp_path / "out"))
    result = braid("lm-eval", "run", *arguments, *task)
    assert result.exit_code == 0, result.output
    model = braidlm.load(embedded.NAME, dtype="float32")
    items = [json.loads(line) for line in (EXAMPLES / "reading.jsonl").read_text().splitlines()]
    right = [best(model, one["question"], one["choices"]) == one["answer"] for one in items]
    (file,) = (tmp_path / "out").rglob("results_*.json")
    found = json.loads(file.read_text())
    assert found["results"]["reading"]["acc,none"] == pytest.approx(sum(right) / len(right))
    assert 0.3 < sum(right) / len(right) <= 1
    plain = braidlm.build(model.spec).network
    assert found["config"]["model_num_parameters"] == sum(one.numel() for one in plain.parameters()) > 6_000_000
    assert "reading" in result.stdout


@pytest.mark.usefixtures("harness")
def test_a_task_that_does_not_exist() -> None:
    """Oracle: the sentence, with the name that was meant."""
    asked = ("lm-eval", "--model", "braid", "--model_args", f"pretrained={embedded.NAME}", "--include_path", "examples")
    for option in (("--tasks", "redding"), ("--tasks=redding",), ("-t", "redding")):
        result = braid(*asked, *option)
        assert isinstance(result.exception, InputError), result.output
        assert "no task 'redding'; did you mean 'reading'?" in str(result.exception)


@pytest.mark.usefixtures("harness")
def test_asked_tasks(tmp_path: Path) -> None:
    """Oracle: by hand: names after the option, up to the next one; files and directories are no names."""
    assert asked_tasks(["run", "--tasks", "a,b", "c", "--limit", "3", "--model", "d"]) == ["a", "b", "c"]
    assert asked_tasks(["run", "-t", "x.yaml", str(tmp_path), "y", "--tasks=z,w"]) == ["y", "z", "w"]
    assert asked_tasks(["ls", "tasks"]) == []


def test_help_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the sentence without the package; our own help without a word, lm-eval's after one."""
    assert "--model braid" in braid("lm-eval", "--help").stdout
    passed_on = braid("lm-eval", "run", "--help")
    assert passed_on.exit_code == 0 and "--num_fewshot" in passed_on.stdout
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    result = braid("lm-eval", "run", "--help")
    assert isinstance(result.exception, UnavailableError)
    assert "package lm-eval" in str(result.exception) and "[eval]" in str(result.exception)
