"""A training loop and an objective of one's own, as docs/training.md shows them, and gradients through states."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

import braidlm
from braidlm import LanguageModel
from braidlm.ops import Segments
from braidlm.state.batch import BatchState
from braidlm.train.training_log import read_log

from ..spec.specs import MIXERS
from ..spec.specs import model as described
from .small import make

TEXT = (Path(__file__).parents[2] / "docs" / "training.md").read_text()
# Sums in another order, float32: measured 2e-6 of each gradient's norm at most.
SAME = 1e-5


def gradients(model: LanguageModel, loss: Tensor) -> dict[str, Tensor]:
    model.network.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.network.named_parameters() if p.grad is not None}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm() <= SAME * gradient.norm().clamp_min(1e-9), name


def test_the_loop_in_the_text(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Oracles: a loss that falls below half; autograd over the whole sequences, in one pass of the public `forward`."""
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"## A loop of your own\n.*?```python\n(.*?)```", TEXT, re.DOTALL)
    space: dict[str, Any] = {}
    exec(code, space)  # our own text
    model, ids, loss_of = space["model"], space["text_BL"], space["loss_of"]
    assert loss_of(ids, model.network.training_state(2)) < 2.7  # of ln 256 = 5.5
    assert torch.equal(braidlm.load("fox").forward(ids), model.forward(ids))
    model.network.requires_grad_()
    state = model.network.training_state(2)
    halves = (loss_of(ids[:, :37], state) * 36 + loss_of(ids[:, 36:], state) * 35) / 71
    whole = cross_entropy(model.forward(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    assert_same(gradients(model, halves), gradients(model, whole))


def nats(model: LanguageModel, ids: Tensor, at: int, end: int, state: BatchState) -> Tensor:
    """The loss of the tokens after those from `at` to `end`; the state moves on."""
    out = model.network(ids[:, at:end].flatten(), Segments((end - at,) * len(ids)), state)
    state.commit(out.state)
    return cross_entropy(out.logits, ids[:, at + 1 : end + 1].flatten(), reduction="sum")


@pytest.mark.parametrize("name", ["attention with everything", "mamba", "mamba2", "hyena", "parallel, mamba2"])
def test_gradients_go_through_states(name: str) -> None:
    """Oracles: autograd over the whole; with the state detached, over the second chunk behind a constant state."""
    model = braidlm.build(described(MIXERS[name], meta_tokens=3))
    model.network.requires_grad_()
    ids = torch.randint(0, 50, (2, 27), generator=torch.Generator().manual_seed(0))
    state = model.network.training_state(2)
    expected = gradients(model, nats(model, ids, 0, 26, state))
    state = model.network.training_state(2)
    found = gradients(model, nats(model, ids, 0, 17, state) + nats(model, ids, 17, 26, state))
    assert_same(found, expected)
    with torch.no_grad():
        constant = model.network.training_state(2)
        nats(model, ids, 0, 17, constant)
    state = model.network.training_state(2)
    nats(model, ids, 0, 17, state)
    alone = gradients(model, nats(model, ids, 17, 26, state.detached()))
    assert_same(alone, gradients(model, nats(model, ids, 17, 26, constant)))
    assert any((alone[key] - expected[key]).norm() > 0.01 * expected[key].norm() for key in alone)


def test_the_objective_in_the_text(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Oracles: the definitions of loss and accuracy, one held-out row after the other; the model that was written."""
    monkeypatch.chdir(tmp_path)
    make(tmp_path)
    (tmp_path / "small.toml").write_text((tmp_path / "run.toml").read_text() + 'dtype = "float32"\n')
    (code,) = re.findall(r"## An objective of your own\n.*?```python\n(.*?)```", TEXT, re.DOTALL)
    space: dict[str, Any] = {}
    exec(code, space)  # our own text
    space["language"].network.requires_grad_(False)
    language, found = space["language"], {"eval_loss": 0.0, "eval_accuracy": 0.0}
    for pack in space["data"].eval_packs:
        logits = language.forward([row.tolist() for row in pack.ids_T.split(pack.lengths)])
        rows = [row[:length] for row, length in zip(logits, pack.lengths, strict=True)]
        logits_TV, wanted = torch.cat(rows)[pack.targets_T >= 0], pack.targets_T[pack.targets_T >= 0]
        found["eval_loss"] += float(-logits_TV.log_softmax(-1).gather(1, wanted[:, None]).sum())
        found["eval_accuracy"] += int((logits_TV.argmax(-1) == wanted).sum())
    targets = sum(int((pack.targets_T >= 0).sum()) for pack in space["data"].eval_packs)
    lines = read_log(tmp_path / "out" / "log.jsonl")
    for name, total in found.items():
        assert [line[name] for line in lines if name in line][-1] == pytest.approx(total / targets, rel=1e-4)
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[-1] < losses[0] - 1
    written, trained = (
        braidlm.load(tmp_path / "out" / "model", dtype="float32"),
        dict(language.network.named_parameters()),
    )
    for name, parameter in written.network.named_parameters():
        assert torch.equal(parameter, trained[name].to(torch.float32)), name
