"""The tiny checkpoints in their published formats against what the reference implementations computed."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import braidlm
from braidlm.api.language_model import LanguageModel
from tests.tolerances import RELATIVE_LOGITS

GOLDEN = Path(__file__).parents[1] / "golden"
FAMILIES = sorted(path.parent.name for path in GOLDEN.glob("*/golden.safetensors"))


@pytest.fixture(scope="module", params=FAMILIES)
def case(request: pytest.FixtureRequest) -> tuple[LanguageModel, dict[str, torch.Tensor]]:
    directory = GOLDEN / request.param
    model = braidlm.load(directory, dtype="float32", allow_pickle=True)
    return model, load_file(directory / "golden.safetensors")


def test_there_are_all_families() -> None:
    """Oracle: the list of published formats, two of them in two layouts."""
    assert len(FAMILIES) == 9


@pytest.mark.parametrize(("ids", "logits"), [("input_ids", "logits"), ("input_ids_long", "logits_long")])
def test_logits(case: tuple[LanguageModel, dict[str, torch.Tensor]], ids: str, logits: str) -> None:
    """Oracle: golden logits of the reference implementation, short and long prompts."""
    model, golden = case
    expected = golden[logits]
    error = (model.forward(golden[ids]) - expected).abs().max() / expected.abs().max()
    assert error < RELATIVE_LOGITS[torch.float32]


def test_greedy(case: tuple[LanguageModel, dict[str, torch.Tensor]]) -> None:
    """Oracle: golden continuation, for which the reference recomputed the whole sequence at every token."""
    model, golden = case
    expected = golden["greedy"].tolist()
    made = [token.id for token in model.stream(golden["input_ids"][0], max_tokens=len(expected))]
    # A model may well choose its end token within the golden continuation; there it stops.
    assert made == expected[: len(made)]
    assert len(made) == len(expected) or made[-1] in model.origin.ends


def test_hidden_states(case: tuple[LanguageModel, dict[str, torch.Tensor]]) -> None:
    """Oracle: golden residual stream after every block and after the final norm (learned prefix cut off)."""
    model, golden = case
    names = [f"blocks.{i}" for i in range(len(model.spec.blocks))]
    hidden_states = model.forward(golden["input_ids"], logits=None, hidden_states=[*names, "norm"]).hidden_states
    hidden = golden["hidden_layers"][:, :, model.spec.meta_tokens :]
    for name, expected in zip(names, hidden, strict=True):
        assert (hidden_states[name] - expected).abs().max() / expected.abs().max() < RELATIVE_LOGITS[torch.float32]
    final = golden["hidden_final"]
    assert (hidden_states["norm"] - final).abs().max() / final.abs().max() < RELATIVE_LOGITS[torch.float32]


def test_unknown_config_key_is_refused(tmp_path: Path) -> None:
    """Oracle: the rule that a key which may change arithmetic is understood or refused."""
    config = json.loads((GOLDEN / "llama" / "config.json").read_text()) | {"surprise_scale": 3}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes((GOLDEN / "llama" / "model.safetensors").read_bytes())
    with pytest.raises(braidlm.BraidError, match="'surprise_scale'"):
        braidlm.load(tmp_path)
