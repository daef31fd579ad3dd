"""Adapters and learned states over HTTP and on the command line."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

import braidlm
from braidlm.adapters import Lora, StateTuning, attach, attach_initial, detach_initial, save_adapter, save_initial
from braidlm.cli.main import app
from braidlm.errors import InputError
from braidlm.server import Settings
from tests.adapters.models import stirred
from tests.families.tiny import tiny
from tests.server.local import NAME, model, serving

PROMPT = list(range(5, 25))


def made(language: braidlm.LanguageModel, place: Path) -> None:
    """Files of an adapter and a learned state for a model, which is left as it was."""
    adapters = attach(language.network, Lora(rank=2))
    save_adapter(stirred(adapters), place / "adapter")
    adapters.detach()
    initial = attach_initial(language.network, StateTuning())
    for parameter in initial.parameters():
        parameter.data += 1.0
    save_initial(language.network, place / "state.safetensors")
    detach_initial(language.network)


def test_served_by_name(tmp_path: Path) -> None:
    """Oracle: the Python interface with each of them; what is listed; refusals in OpenAI's form."""
    language = model()
    made(language, tmp_path)
    language.load_adapter("a", tmp_path / "adapter")
    language.load_initial_state("s", tmp_path / "state.safetensors")
    ways = {NAME: (None, None), f"{NAME}:a": ("a", None), f"{NAME}:s": (None, "s"), f"{NAME}:a:s": ("a", "s")}
    with serving(language, tmp_path / "sessions", adapters=("a",), initial_states=("s",)) as local:
        assert {item["id"] for item in local.get("/v1/models").json()["data"]} == ways.keys()
        assert local.get(f"/v1/models/{NAME}:a").json()["id"] == f"{NAME}:a"
        for name, way in ways.items():
            wanted = language.using(*way).generate(PROMPT, max_tokens=6)
            body = {"model": name, "prompt": PROMPT, "max_tokens": 6, "temperature": 0}
            reply = local.post("/v1/completions", body).json()
            assert (reply["model"], reply["choices"][0]["text"]) == (name, wanted)
            said = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4, "temperature": 0}
            chat = local.post("/v1/chat/completions", {"model": name, **said}).json()
            text = language.using(*way).generate(said["messages"], max_tokens=4)
            assert (chat["model"], chat["choices"][0]["message"]["content"]) == (name, text)
        wrong = local.post("/v1/completions", {"model": f"{NAME}:b", "prompt": "x"})
        assert wrong.status_code == 404
        assert f"'{NAME}:a'" in wrong.json()["error"]["message"]
        stored = local.post("/v1/chat/completions", {"model": f"{NAME}:a", "session": "x", **said})
        assert stored.status_code == 400
        assert "sessions are of the model itself" in stored.json()["error"]["message"]
        vector = local.post("/v1/embeddings", {"model": f"{NAME}:a", "input": "x"})
        assert vector.status_code == 400


def test_names_are_told_apart() -> None:
    """Oracle: a sentence for a name that would mean two things."""
    for adapters, initials in ((("a",), ("a",)), (("a:b",), ()), (("",), ())):
        with pytest.raises(InputError, match="cannot be the name of"):
            Settings(name="m", adapters=adapters, initial_states=initials)


def test_command_line(tmp_path: Path) -> None:
    """Oracle: the Python interface; one sentence for what is no adapter; a note about other weights."""
    language = braidlm.build(tiny("mamba2", 1))
    language.save(tmp_path / "base", "braidlm")
    made(language, tmp_path)
    wanted = braidlm.load(tmp_path / "base")
    wanted.load_adapter("a", tmp_path / "adapter")
    wanted.load_initial_state("s", tmp_path / "state.safetensors")
    start = ["generate", str(tmp_path / "base"), "5 6 7", "--ids", "--max-tokens", "5"]
    both = ["--adapter", str(tmp_path / "adapter"), "--state", str(tmp_path / "state.safetensors")]
    run = CliRunner().invoke
    assert run(app, [*start, *both]).stdout.split() == [
        str(i) for i in wanted.using("a", "s").generate([5, 6, 7], max_tokens=5)
    ]
    noted = run(app, [*start, *both, "--dtype", "bfloat16"])
    assert noted.exit_code == 0
    assert "made for other weights" in noted.stderr
    refused = run(app, [*start, "--adapter", str(tmp_path)])
    assert refused.exit_code != 0
