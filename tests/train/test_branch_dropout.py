"""Attention beside a recurrence that is left out at random in training."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import braidlm
from braidlm.errors import InputError
from braidlm.model.model import Model
from braidlm.spec import Parallel
from braidlm.train import training_log
from braidlm.train.branch_dropout import DroppedBranches, probability
from braidlm.train.config import BranchDropout, Config, Loss, Stage
from braidlm.train.language_model import LanguageModelObjective
from braidlm.train.loop import Trainer
from braidlm.train.passes import Passes
from tests.families.tiny import tiny
from tests.train.packings import OneText, pack_of
from tests.train.runs import config, ids_for, losses, model


def summed(dtype: str = "float32") -> Model:
    """A Hymba whose parallel layers add their branches."""
    spec = tiny("hymba", 3)
    blocks = (replace(block, mixer=replace(block.mixer, combine="sum")) for block in spec.blocks)
    return braidlm.build(replace(spec, blocks=tuple(blocks)), dtype=dtype).network


def zeroed(heads: Any) -> Any:
    """Attention heads that give zero, with their state."""

    def run(*given: Any) -> Any:
        attended, state = heads(*given)
        return attended * 0, state

    return run


def test_probabilities() -> None:
    """Oracle: by hand: a straight line to zero at a share of the steps."""
    asked = BranchDropout(start=0.8, until=0.5)
    found = [probability(asked, step, 40) for step in (0, 5, 10, 20, 39)]
    assert found == pytest.approx([0.8, 0.6, 0.4, 0, 0])


@pytest.mark.parametrize("combine", ["mean", "sum"])
@pytest.mark.parametrize("activation_checkpointing", [False, True])
def test_what_is_left_out(combine: str, activation_checkpointing: bool) -> None:
    """Oracle: the same model whose attention heads give zero: the loss and all gradients, zero for attention."""
    network = (model("hymba") if combine == "mean" else summed()).train().requires_grad_()
    parallel = [block.mixer for block in network.blocks]
    assert all(isinstance(block.mixer, Parallel) for block in network.spec.blocks)
    objective = LanguageModelObjective(network, Loss(), Passes(activation_checkpointing=activation_checkpointing))
    pack = pack_of([ids_for(network)[:20], ids_for(network)[20:50]])

    def gradients() -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        network.zero_grad()
        loss = objective(pack).loss
        loss.backward()
        return loss.detach(), {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}

    plain = gradients()[0]
    dropped = DroppedBranches(network, BranchDropout(start=1), seed=0, steps=1000)
    with dropped.drawn(0, 0):
        loss, found = gradients()
        network.eval()
        assert torch.equal(objective(pack).loss, plain)
        network.train()
    assert loss != plain and torch.equal(gradients()[0], plain)
    for mixer in parallel:
        mixer.attention.heads = zeroed(mixer.attention.heads)
    expected = gradients()
    assert torch.equal(loss, expected[0])
    assert found.keys() == expected[1].keys()
    for name, gradient in expected[1].items():
        assert torch.equal(found[name], gradient), name
    inside = [gradient for name, gradient in found.items() if ".mixer.attention." in name]
    assert inside and not any(gradient.any() for gradient in inside)


def test_each_by_itself() -> None:
    """Oracle: the probability, over many draws: of every layer, and of two layers, steps and sequences together."""
    network = model("hymba")
    dropped = DroppedBranches(network, BranchDropout(start=0.5), seed=3, steps=10**6)
    mixers = [block.mixer for block in network.blocks]

    def drawn(step: int, index: int) -> list[bool]:
        with dropped.drawn(step, index):
            return [mixer.attention_dropped for mixer in mixers]

    found = torch.tensor([[drawn(step, index) for index in range(2)] for step in range(1000)]).float()
    assert (found.mean((0, 1)) - 0.5).abs().max() < 0.06
    assert ((found[:, 0] * found[:, 1]).mean(0) - 0.25).abs().max() < 0.06
    assert ((found[1:, 0] * found[:-1, 0]).mean(0) - 0.25).abs().max() < 0.06
    assert abs(float((found[:, 0, 0] * found[:, 0, 1]).mean()) - 0.25) < 0.06
    assert drawn(7, 1) == drawn(7, 1) and not any(mixer.attention_dropped for mixer in mixers)


def asked_in(out: Path, dropout: BranchDropout | None, **changes: Any) -> Config:
    return replace(config(out, **changes), branch_dropout=dropout)


@pytest.mark.parametrize("carry", [False, True])
def test_a_stopped_run_goes_on_bit_for_bit(carry: bool, tmp_path: Path) -> None:
    """Oracles: the same run without a stop; other losses than without dropout, and the same where it has ended."""
    dropout = BranchDropout(start=0.9)
    network = model("hymba")
    ids = ids_for(network)
    whole = losses(asked_in(tmp_path / "whole", dropout, carry_state=carry), network, ids)
    halved = asked_in(tmp_path / "halved", dropout, carry_state=carry)
    Trainer(halved, model("hymba"), OneText(ids), []).run(until=4)
    again = model("hymba")
    losses(halved, again, ids)
    told = [line["loss"] for line in training_log.read_log(tmp_path / "halved" / training_log.FILE)]
    assert told == whole
    for (name, found), wanted in zip(again.named_parameters(), network.parameters(), strict=True):
        assert torch.equal(found, wanted), name
    plain = losses(asked_in(tmp_path / "plain", None, carry_state=carry), model("hymba"), ids)
    assert whole[0] != plain[0]
    rare = BranchDropout(start=1e-9)
    assert losses(asked_in(tmp_path / "rare", rare, carry_state=carry), model("hymba"), ids) == plain


def test_what_is_refused(tmp_path: Path) -> None:
    """Oracle: sentences: no such branch, a share out of range, another schedule once a run has begun."""
    network = model("bamba")
    dropout = BranchDropout(start=0.5)
    with pytest.raises(InputError, match="which no block of the model has"):
        Trainer(asked_in(tmp_path / "none", dropout), network, OneText(ids_for(network)), [])
    with pytest.raises(InputError, match=r"branch_dropout\.start is 1\.5, but must be"):
        BranchDropout(start=1.5)
    asked, hymba = asked_in(tmp_path / "run", dropout), model("hymba")
    asked = replace(asked, schedule=replace(asked.schedule, kind="wsd"))
    packing = OneText(ids_for(hymba))
    Trainer(asked, hymba, packing, []).run(until=2)
    with pytest.raises(InputError, match=r"branch_dropout\.start is 0\.25, but the run of .* was begun with 0\.5"):
        Trainer(replace(asked, branch_dropout=BranchDropout(start=0.25)), hymba, packing, [])
    longer = replace(asked, stages=(*asked.stages, Stage(steps=94, batch_size=2, seq_len=40)))
    assert Trainer(longer, hymba, packing, []).step == 2
    stretched = replace(longer, schedule=replace(asked.schedule, steps=100))
    with pytest.raises(InputError, match=r"schedule\.steps is 100, but the run of .* was begun with 6"):
        Trainer(stretched, hymba, packing, [])
