"""Weights in huge pages."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import braidlm
from braidlm import LanguageModel
from braidlm.decode import decode, pages
from braidlm.families.presets import preset
from braidlm.model.identity import held_weights
from braidlm.ops import native_loader
from braidlm.system.huge_pages import in_huge_pages, offered
from tests.tolerances import RELATIVE_LOGITS

pytestmark = [
    pytest.mark.skipif(native_loader.why_not() is not None, reason="the extension is not built"),
    pytest.mark.skipif(not offered(), reason="the system makes no huge pages"),
]


def wide() -> LanguageModel:
    """One block with matrices and vectors."""
    spec = preset("smollm2-135m").spec
    return braidlm.build(replace(spec, vocab=128, blocks=spec.blocks[:1]))


def values(model: LanguageModel) -> dict[str, Tensor]:
    return {name: weight.clone() for name, weight in model.network.named_weights()}


def decoded(model: LanguageModel) -> Tensor:
    state = model.new_state()
    decoder = decode.Decoder(model.network, state.precision, 1)
    decoder.set_state(0, state.sequences[0])
    return decoder.step(torch.tensor([1]), [0])


def moved(model: LanguageModel) -> set[str]:
    return {name for name, weight in model.network.named_parameters() if in_huge_pages(weight)}


def test_decoding_moves_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the same weights and logits as without huge pages; and one move only."""
    model = wide()
    before = values(model)
    monkeypatch.setenv("BRAIDLM_HUGE_PAGES", "0")
    expected = decoded(model)
    assert moved(model) == set()
    monkeypatch.delenv("BRAIDLM_HUGE_PAGES")
    model.network.norm.weight.mul_(1)  # a new version, so that a new plan is made
    assert torch.equal(decoded(model), expected)
    assert moved(model) == {name for name, _ in model.network.named_parameters()}
    assert all(torch.equal(weight, before[name]) for name, weight in model.network.named_weights())
    version = model.network.weights.version()
    decoded(model)
    assert model.network.weights.version() == version


def test_quantized_weights_move_too() -> None:
    """Oracle: the logits of the reference operations on the same quantized weights."""
    model = wide()
    model.quantize("int8")
    ids = torch.tensor([[1]])
    expected = braidlm.LanguageModel(model.network, None, model.origin, ops="reference").forward(ids)[0, -1]
    found = decoded(model)[0]
    assert all(in_huge_pages(weight) for weight in held_weights(model.network))
    assert (found - expected).abs().max() <= RELATIVE_LOGITS[torch.float32] * expected.abs().max()


def test_no_move_without_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: where the weights are; a machine that they nearly fill keeps them as they are."""
    model = wide()
    monkeypatch.setattr(pages, "available_memory", lambda: 1000)
    decoded(model)
    assert moved(model) == set()


def test_a_file_is_given_up(tmp_path: Path) -> None:
    """Oracle: the kernel's list of what the process has mapped."""
    wide().save(tmp_path / "model", "braidlm")
    model = braidlm.load(tmp_path / "model")
    name = str(tmp_path / "model")
    assert name in Path("/proc/self/maps").read_text()
    decoded(model)
    assert name not in Path("/proc/self/maps").read_text()
