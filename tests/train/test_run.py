"""`braid train` from shards to a model that can be used."""

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import braidlm
from braidlm import adapters
from braidlm.cli.main import app
from braidlm.errors import InputError
from braidlm.text.tokenizer import Tokenizer
from braidlm.train import run as runs
from braidlm.train import training_log
from braidlm.train.config import Loss, read_config
from braidlm.train.data.shards import Shards
from braidlm.train.data.stream import Stream
from braidlm.train.language_model import LanguageModelObjective
from braidlm.train.world import World
from tests.train.small import CONFIG


def test_a_whole_run(place: Path) -> None:
    """Oracle: held-out loss falls; what is written is there: steps, samples, a model that writes, card and curve."""
    found = CliRunner().invoke(app, ["train", str(place / "run.toml")], catch_exceptions=False)
    assert found.exit_code == 0
    log = training_log.read_log(place / "out" / "log.jsonl")
    eval_losses = [line["eval_loss"] for line in log if "eval_loss" in line]
    assert len(eval_losses) == 3 and eval_losses[-1] < eval_losses[0] < 6
    assert [line["step"] for line in log if "sample" in line] == [20, 30]
    model = braidlm.load(place / "out" / "model")
    assert model.generate("The", max_tokens=4)
    card = (place / "out" / "model" / "README.md").read_text()
    assert "texts.jsonl" in card and f"{eval_losses[-1]:.4f} nats" in card
    assert (place / "out" / "model" / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert any((place / "out" / "tensorboard").iterdir())


def test_a_published_layout_and_further_training(place: Path) -> None:
    """Oracle: a model of published kind is written as such; training goes on from it where it was."""
    preset = ("--set", 'model.preset="mamba2-130m"')
    spec = CONFIG.replace('[[model.spec.blocks]]\nmixer = { kind = "Hyena", d_state = 4, filters = 32 }\n', "")
    spec = spec.replace('ffn = { kind = "Mlp", hidden = 48 }\n', "")
    (place / "run.toml").write_text(spec)
    CliRunner().invoke(app, ["train", str(place / "run.toml")], catch_exceptions=False)
    model = place / "out" / "model"
    assert json.loads((model / "config.json").read_text())["model_type"] == "mamba2"
    further = spec[spec.index("[data]") :].replace('out = "out"', 'out = "further"')
    (place / "further.toml").write_text(f'[model]\ncheckpoint = "{model}"\n{further}')
    prepared = runs.prepare(read_config(place / "further.toml"), World())
    before = training_log.read_log(place / "out" / "log.jsonl")
    last = next(line["eval_loss"] for line in reversed(before) if "eval_loss" in line)
    assert prepared.trainer.evaluate() == pytest.approx(last, rel=0.01)
    with pytest.raises(InputError, match=r"model is .* but must be one of"):
        read_config(place / "further.toml", [preset[1].replace('"', "")])


def test_implicit_filters_become_modes(place: Path) -> None:
    """Oracle: the last held-out loss, of the implicit filters: that of the model that was written, with modes."""
    told = ["--set", "model.filters=implicit", "--set", "run.sample=0", "--set", "run.dtype=float32"]
    CliRunner().invoke(app, ["train", str(place / "run.toml"), *told], catch_exceptions=False)
    last = [line["eval_loss"] for line in training_log.read_log(place / "out" / "log.jsonl") if "eval_loss" in line][-1]
    texts = Shards(place / "shards", Tokenizer.from_directory(place / "tokenizer")).holdout
    stage = Stream(texts, 0).stage(0, 1, 128, texts.tokens // 128)
    packs = [stage.pack(number, 0) for number in range(texts.tokens // 128)]
    objective = LanguageModelObjective(braidlm.load(place / "out" / "model").network, Loss())
    with torch.no_grad():
        total = sum(float(objective(pack).plain) for pack in packs)
    targets = sum(int((pack.targets_T >= 0).sum()) for pack in packs)
    assert total / targets == pytest.approx(last, rel=1e-3)
    assert "modes fitted to implicit filters" in (place / "out" / "model" / "README.md").read_text()
    with pytest.raises(InputError, match=r'run\.sample is 20, but must be 0 where model\.filters is "implicit"'):
        read_config(place / "run.toml", told[:2][1:])


@pytest.mark.parametrize("method", ["lora", "dora", "state", "full"])
def test_fine_tuning(method: str, place: Path) -> None:
    """Oracle: held-out loss is lower after it; what was written gives that loss on the model as it was."""
    CliRunner().invoke(app, ["train", str(place / "run.toml")], catch_exceptions=False)
    base, shards, out = (str(place / name) for name in ("out/model", "shards", "tuned"))
    options = ["--method", method, "--lr", "1e-2", "--steps", "20", "--seq-len", "256", "--packing", "stream"]
    found = CliRunner().invoke(app, ["finetune", base, shards, out, *options], catch_exceptions=False)
    assert found.exit_code == 0
    losses = [line["eval_loss"] for line in training_log.read_log(place / "tuned" / "log.jsonl") if "eval_loss" in line]
    before = [line["eval_loss"] for line in training_log.read_log(place / "out" / "log.jsonl") if "eval_loss" in line]
    assert losses[-1] < before[-1]
    if method in ("lora", "dora"):
        assert "in_proj" in found.output and "share of compute" in found.output
        model = braidlm.load(base).network
        adapters.load_adapter(model, place / "tuned" / "adapter").put_on()
    elif method == "state":
        model = braidlm.load(base).network
        adapters.put_on(model, adapters.load_initial(model, place / "tuned" / "initial.safetensors"))
    else:
        model = braidlm.load(place / "tuned" / "model").network
    tokenizer = Tokenizer.from_directory(place / "tokenizer")
    texts = Shards(place / "shards", tokenizer).holdout
    objective = LanguageModelObjective(model, Loss())
    size = min(texts.tokens, 4096)
    stage = Stream(texts, 0).stage(0, 1, size, texts.tokens // size)
    packs = [stage.pack(step, 0) for step in range(texts.tokens // size)]
    with torch.no_grad():
        found_loss = sum(float(objective(pack).plain) for pack in packs) / sum(
            int((p.targets_T >= 0).sum()) for p in packs
        )
    assert found_loss == pytest.approx(losses[-1], rel=0.02)  # of weights rounded to bfloat16


def test_another_tokenizer_is_refused(place: Path) -> None:
    """Oracle: the sentence."""
    file = place / "tokenizer" / "tokenizer.json"
    data = json.loads(file.read_text())
    data["model"]["merges"].pop()
    data["model"]["vocab"] = {k: v for k, v in data["model"]["vocab"].items() if v < 299}
    file.write_text(json.dumps(data))
    with pytest.raises(InputError, match="was tokenized with another vocabulary"):
        runs.prepare(read_config(place / "run.toml"), World())
    (place / "empty").mkdir()
    with pytest.raises(InputError, match="the model has no tokenizer"):
        runs.prepare(read_config(place / "run.toml", ["model.tokenizer=empty"]), World())
