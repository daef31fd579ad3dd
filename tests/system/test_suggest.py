"""Did you mean: the nearest known name to one that is unknown."""

import re
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from typer.testing import CliRunner

import braidlm
from braidlm.adapters import Lora, attach
from braidlm.api.language_model import LanguageModel
from braidlm.api.loading import read_spec, read_tokenizer
from braidlm.cli.main import app
from braidlm.errors import BraidError
from braidlm.spec import Mixer, ModelSpec
from braidlm.spec.json import decode
from braidlm.system.suggest import did_you_mean, misspelt, near
from braidlm.text.tool_calls.formats import check_name
from braidlm.train.config import Config, read_config

KNOWN = ("max_tokens", "temperature", "top_p", "smollm2-135m", "granite-4.0-h-350m", "granite-4.0-350m")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("max_new_tokens", "max_tokens"),
        ("maxTokens", "max_tokens"),
        ("temprature", "temperature"),
        ("smollm2_135m", "smollm2-135m"),
        ("SmolLM2-135M", "smollm2-135m"),
        ("granite-40-h-350m", "granite-4.0-h-350m"),
        ("colour", ""),
        ("", ""),
        ("temperature" * 1000, ""),
    ],
)
def test_nearest_name(name: str, meant: str) -> None:
    """Oracle: the name that whoever wrote this meant; none where nothing is alike, or too long to be a name."""
    assert near(name, KNOWN) == meant
    assert did_you_mean(name, KNOWN) == (f"; did you mean {meant!r}?" if meant else "")


@pytest.fixture(scope="module")
def language() -> LanguageModel:
    return braidlm.load("braid-6m")


def trained_from(change: str) -> Config:
    """Configuration from a file with all required fields, and one `change`."""
    least = (
        '[model]\npreset = "mamba2-130m"\n[data]\nshards = "s"\n[[stages]]\nsteps = 1\nbatch_size = 1\nseq_len = 1\n'
    )
    with TemporaryDirectory() as directory:
        file = Path(directory) / "run.toml"
        file.write_text(f'{least}[optimizer]\nlr = 1.0\n[run]\nout = "o"\n')
        return read_config(file, (change,))


# Each way to give a name that there is not: what is called with a model, and the name that was meant.
REFUSALS: dict[str, tuple[Callable[[LanguageModel], Any], str]] = {
    "preset": (lambda _: braidlm.build("mamba2-130"), "mamba2-130m"),
    "model": (lambda _: braidlm.load("smolm2-135m"), "smollm2-135m"),
    "the model that comes with braidlm": (lambda _: braidlm.load("braid6m"), "braid-6m"),
    "description of a model": (lambda _: read_spec("hymba1.5b"), "hymba-1.5b"),
    "tokenizer": (lambda _: read_tokenizer("SmolLM2-135M"), "smollm2-135m"),
    "option of generate": (lambda model: model.generate("a", max_new_tokens=3), "max_tokens"),
    "option of stream": (lambda model: next(iter(model.stream("a", max_new_tokens=3))), "max_tokens"),
    "hidden states": (lambda model: model.forward([[1]], hidden_states=["block.0"]), "blocks.0"),
    "adapter": (lambda model: model.using("tsk"), "task"),
    "target of an adapter": (lambda model: attach(model.network, Lora(target_modules=("qproj",))), "q_proj"),
    "field of a description": (lambda _: ModelSpec.from_json({"vocb": 3}), "vocab"),
    "kind of a mixer": (lambda _: decode(Mixer, {"kind": "mamba-2"}, "spec.blocks[0].mixer"), "Mamba2"),
    "field of a run": (lambda _: trained_from("optimizer.weight-decay=0.1"), "weight_decay"),
    "tool format": (lambda _: check_name("hermès"), "hermes"),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_refusals_say_what_was_meant(what: str, language: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: each name that is not known is refused, and the one that was meant is in the sentence."""
    monkeypatch.setitem(language.adapters._adapters, "task", None)
    refused, meant = REFUSALS[what]
    with pytest.raises(BraidError, match=f"; did you mean '{re.escape(meant)}'\\?$"):
        refused(language)


def test_names_that_are_like_nothing_are_answered_with_all(language: LanguageModel) -> None:
    """Oracle: the lists of what there is."""
    with pytest.raises(
        BraidError, match=r"a preset, nor a hub id; the presets are braid-6m, mamba-130m, .*smollm2-360m$"
    ):
        braidlm.load("zzz")
    with pytest.raises(BraidError, match="unknown option 'colour'; there are max_tokens, temperature, "):
        language.generate("a", colour=3)


def test_one_tap_is_no_list_of_taps(language: LanguageModel) -> None:
    """Oracle: a name alone is not read letter by letter."""
    with pytest.raises(BraidError, match=r"^hidden_states is 'norm', but must be a list of names, such as \['norm'\]$"):
        language.forward([[1]], hidden_states="norm")


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (("generate", "braid-6m", "a", "--max-new-tokens", "3"), "--max-tokens"),
        (("genrate", "braid-6m", "a"), "generate"),
        (("session", "lst"), "list"),
        (("info", "smolm2-135m"), "smollm2-135m"),
    ],
)
def test_command_line_says_what_was_meant(arguments: tuple[str, ...], meant: str) -> None:
    """Oracle: options, commands and models that are not known are refused with the one that was meant."""
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code != 0
    assert meant in f"{done.output}{done.exception}"


def test_misspelt_names() -> None:
    """Oracle: by hand: a character more, less or other, or case and spaces; never a name that is known or there."""
    known = ("eos_token", "bos_token")
    for key in ("eos_tokn", "eos_tokken", "eos-token", "os_token", "eos_token_", " EOS_TOKEN", "Eos_token"):
        assert misspelt([key, "bos_token"], known) == (key, "eos_token"), key
    for keys in (["eos_token", "eos_tokn", "bos_token"], ["eos_tkn", "x"], ["eos"], [], ["bos_token", "eos_tooken_"]):
        assert misspelt(keys, known) is None, keys
