"""The commands, in this process and as a user starts them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import braidlm
from braidlm.bench.verify import Check
from braidlm.families.presets import PRESETS
from braidlm.sessions import SessionStore
from tests.cli.commands import braid, data, entry, process

GOLDEN = Path(__file__).parents[1] / "golden"
FAMILIES = sorted(path.parent.name for path in GOLDEN.glob("*/golden.safetensors"))
PARAMETERS = {
    "stripedhyena-7b": 7.646e9,
    "hymba-1.5b": 1.523e9,
    "bamba-9b": 9.780e9,
    "mamba-130m": 129.1e6,
    "mamba2-130m": 129.0e6,
    "granite-4.0-tiny": 6.939e9,
    "granite-4.0-tiny-preview": 6.672e9,
    "llama-3.2-3b": 3.213e9,
    "smollm2-135m": 134.5e6,
}


def test_info_of_published_shapes() -> None:
    """Oracle: the parameter counts that the models are known by."""
    assert set(data("info")["presets"]) == set(PRESETS)
    for name, expected in PARAMETERS.items():
        assert data("info", name)["parameters"] == pytest.approx(expected, rel=1e-3)


def test_info_of_files() -> None:
    """Oracle: the golden configs and the descriptions that loading gives."""
    for path in (GOLDEN / "hymba", GOLDEN / "gguf" / "mamba2.gguf"):
        found = data("info", str(path), "--lengths", "10,20", "--dtype", "float32")
        model = braidlm.load(path, dtype="float32")
        assert braidlm.ModelSpec.from_json(found["spec"]) == model.spec
        assert found["parameters"] == sum(p.numel() for p in model.network.parameters())
        assert found["weight_bytes"] == sum(p.nbytes for p in model.network.parameters())
        state = model.new_state()
        model.forward([list(range(20))], state=state)
        assert found["state_bytes"]["20"] == state.nbytes
    text = braid("info", "hymba-1.5b").stdout
    for word in ("Parallel", "meta tokens", "state at 32768 tokens", "1.52 B"):
        assert word in text
    assert "mamba2-2.7b" in braid("info").stdout


def test_generate_from_ids() -> None:
    """Oracle: the golden continuation of a checkpoint without a tokenizer."""
    golden = braidlm.load(GOLDEN / "bamba", dtype="float32")
    arguments = ("generate", str(GOLDEN / "bamba"), "5 6,7", "--ids", "--max-tokens", "6", "--dtype", "float32")
    expected = [token.id for token in golden.stream([5, 6, 7], max_tokens=6)]
    assert data(*arguments)["ids"] == expected
    assert braid(*arguments).stdout.split() == [str(token) for token in expected]


def test_generate_text() -> None:
    """Oracle: the Python interface, on a real model; standard input, stop texts and seeds included."""
    model = braidlm.load("smollm2-135m")
    start = ("generate", "smollm2-135m")
    greedy = model.generate("The capital of France is", max_tokens=8)
    assert braid(*start, "The capital of France is", "--max-tokens", "8").stdout == greedy + "\n"
    assert braid(*start, "-", "--max-tokens", "8", text="The capital of France is").stdout == greedy + "\n"
    drawn = ("--temperature", "0.9", "--top-p", "0.9", "--seed", "3", "--max-tokens", "8")
    found = data(*start, "Größe: 数", *drawn)
    expected = model.generate("Größe: 数", temperature=0.9, top_p=0.9, seed=3, max_tokens=8)
    assert found["text"] == expected
    assert len(found["ids"]) == len(found["logprobs"])
    assert found["finish"] in ("stop", "length")
    assert data(*start, "1 2 3 4 5", "--stop", " 8", "--max-tokens", "20")["text"].endswith("7")


@pytest.mark.parametrize("family", FAMILIES)
def test_verify(family: str) -> None:
    """Oracle: the library's own checks, all of which must pass on every golden checkpoint."""
    arguments = ("verify", str(GOLDEN / family), "--length", "70", "--allow-pickle")
    assert data(*arguments, "--dtype", "float32")["passed"] is True
    found = data(*arguments, "--dtype", "bfloat16", "--kv-dtype", "int8")
    assert len(found["checks"]) == 9
    assert all(check["passed"] and check["error"] <= check["tolerance"] for check in found["checks"])
    assert found["checks"][0]["tolerance"] < 0.5


def test_verify_fails_loudly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: a check over its tolerance, and one that is not a number."""
    for error in (0.5, float("nan")):
        monkeypatch.setattr("braidlm.bench.verify.verify", lambda *_, e=error: [Check("forked", e, 1e-4)])
        result = braid("verify", str(GOLDEN / "llama"))
        assert result.exit_code == 1
        assert "FAILED" in result.stdout


def test_convert(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Oracle: the weights before; a directory that is there is never touched."""
    before = braidlm.load(GOLDEN / "mamba").network.state_dict()
    source = str(GOLDEN / "mamba")
    for form in ("hf", "braidlm", "mamba-original"):
        found = data("convert", source, str(tmp_path / form), "--format", form)
        assert sorted(found["files"]) == sorted(file.name for file in (tmp_path / form).iterdir())
        after = braidlm.load(tmp_path / form, allow_pickle=True).network.state_dict()
        assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
        source = str(tmp_path / form)
    done = entry(capfd, "convert", str(GOLDEN / "mamba"), str(tmp_path / "hf"))
    assert done.returncode == 2
    assert "not empty" in done.stderr


def test_doctor() -> None:
    """Oracle: an implementation for each operation, and the reason why it is not a faster one."""
    found = data("doctor")
    assert {row["operation"] for row in found["operations"]} >= {"attention", "selective_scan", "ssd", "gated_conv"}
    assert all(row["implementation"] in ("native", "reference") and row["why"] for row in found["operations"])
    assert found["native extension"] == "loaded"
    assert "selective_scan" in braid("doctor").stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("generate", "nowhere", "hello"), "nowhere"),
        (("generate", str(GOLDEN / "llama"), "hello"), "no tokenizer"),
        (("generate", str(GOLDEN / "llama"), "a b", "--ids"), "whole numbers"),
        (("generate", str(GOLDEN / "llama"), "1 999", "--ids"), "999"),
        (("generate", str(GOLDEN / "llama"), "1", "--ids", "--temperature", "-1"), "temperature"),
        (("verify", str(GOLDEN / "mamba_original")), "allow-pickle"),
        (("verify", str(GOLDEN / "llama"), "--dtype", "int3"), "int3"),
        (("chat", str(GOLDEN / "llama")), "chat template"),
        (("info", str(GOLDEN)), "config.json"),
        (("info", "mamba-130m", "--dtype", "int3"), "bf16"),
        (("info", "mamba-130m", "--kv-dtype", "int3"), "kv_dtype"),
        (("generate", "nowhere", "1 2", "--ids", "--chat"), "--ids and --chat exclude each other"),
        (("convert", "nowhere", "there", "--format", "nope"), "hf, braidlm"),
        (("verify", str(GOLDEN / "llama"), "--seed", "99999999999999999999"), "seed"),
        (("verify", str(GOLDEN / "llama"), "--seed", "-1"), "seed"),
        (("generate", "smollm2-135m", "a\udcff"), "Unicode"),
    ],
)
def test_errors_are_one_sentence(arguments: tuple[str, ...], words: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Oracle: exit code 2, one line on standard error, nothing on standard output."""
    done = entry(capfd, *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("braid: ")
    assert len(done.stderr.strip().splitlines()) == 1
    assert words in done.stderr


@pytest.mark.parametrize("arguments", [("generate", str(GOLDEN / "llama"), "-", "--ids"), ("chat", "smollm2-135m")])
def test_standard_input_that_is_no_text(arguments: tuple[str, ...]) -> None:
    """Oracle: one sentence and exit code 2."""
    command = [sys.executable, "-c", "from braidlm.cli.main import main; main()", *arguments]
    strict = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run(command, input=b"a\xffb\n", capture_output=True, timeout=120, check=False, env=strict)
    assert done.returncode == 2
    assert done.stderr.decode().strip().splitlines()[-1].startswith("braid: standard input is no text in utf-8")


@pytest.mark.parametrize(("short", "long"), [("bf16", "bfloat16"), ("fp32", "float32")])
def test_short_names_of_dtypes(short: str, long: str, tmp_path: Path) -> None:
    """Oracle: the same command with the long name."""
    path = str(GOLDEN / "bamba")
    for command in (
        ("info", path, "--lengths", "10"),
        ("generate", path, "5 6", "--ids", "--max-tokens", "4"),
        ("verify", path, "--length", "8"),
    ):
        found, expected = (data(*command, "--dtype", name, "--kv-dtype", name) for name in (short, long))
        timings = {"first_token_s", "total_s"}
        assert {k: v for k, v in found.items() if k not in timings} == {
            k: v for k, v in expected.items() if k not in timings
        }
    data("convert", path, str(tmp_path / "out"), "--dtype", short)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["torch_dtype"] == long
    assert "state at 10" in braid("info", path, "--lengths", "10", "--kv-dtype", "fp16").stdout


def test_names_are_whole_in_a_pipe(capfd: pytest.CaptureFixture[str]) -> None:
    """Oracle: every name and hub id of the presets, in output that no terminal reads."""
    shown = entry(capfd, "info").stdout
    for name, make in PRESETS.items():
        assert name in shown
        assert (make().package or make().hub) in shown
    assert "…" not in shown


def test_usage_errors() -> None:
    """Oracle: typer's own exit code for a value that an option cannot take."""
    assert braid("info", "hymba-1.5b", "--lengths", "ten").exit_code == 2
    assert braid("generate").exit_code == 2
    assert braid("--version").stdout == f"braid {braidlm.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("x" * 100_000,), "No such command 'xxx"),
        (("session", "export", "a", "--format", "x" * 100_000), "is not one of 'text', 'json', 'file'"),
        (("info", "--" + "x" * 100_000), "No such option: --xxx"),
        (("--" + "x" * 100_000,), "No such option: --xxx"),
        (("session", "info", "a", *["b"] * 50_000), "Got unexpected extra argument"),
    ],
)
def test_usage_errors_are_short(arguments: tuple[str, ...], words: str) -> None:
    """Oracle: typer's own words and exit code, with the quotation cut."""
    done = braid(*arguments)
    assert done.exit_code == 2
    assert words in " ".join(done.stderr.replace("│", " ").split())
    assert len(done.stderr) < 4000


def chat(sessions: Path, *lines: str) -> tuple[list[str], str]:
    """Arguments of a chat, and what is typed."""
    options = ["--sessions", str(sessions), "--temperature", "0", "--max-tokens", "12"]
    return ["chat", "smollm2-135m", *options], "\n".join(lines) + "\n"


def test_chat_keeps_the_system_message_of_a_session(chatty: Path, tmp_path: Path) -> None:
    """Oracle: by hand: a session's own messages stay, and another system message than its own is told to wait."""
    options = ("chat", str(chatty), "--sessions", str(tmp_path), "--session", "talk", "--max-tokens", "1")
    for told, system in ((False, "Be kind."), (False, "Be kind."), (True, "Be brief.")):
        done = braid(*options, "--system", system, text="Hello\n")
        assert done.exit_code == 0, done.stderr
        assert ("keeps the system message that it began with" in " ".join(done.stderr.split())) is told
        assert SessionStore(tmp_path).summary("talk").messages[0] == {"role": "system", "content": "Be kind."}


def test_chat_and_its_sessions(tmp_path: Path) -> None:
    """Oracle: the second turn runs its own tokens only; a saved conversation goes on in another process."""
    arguments, text = chat(
        tmp_path, "What is the capital of France?", "And of Italy?", "/stats", "/save talk", "/load nowhere", "/bogus"
    )
    first = braid(*arguments, text=text)
    assert first.exit_code == 0
    assert "Paris" in first.stdout
    assert "Rome" in first.stdout
    stats = " ".join(first.stderr.split())
    assert " 0 recomputed" in stats
    assert "nowhere" in stats
    assert "/bogus" in stats
    assert "cut at" not in stats
    block = ('"""', "Say", "hi", '"""', "Hello \\", "you")
    arguments, text = chat(
        tmp_path, "/load talk", "/fork more", "And of Spain?", "/stats", "/sessions", "/reset", "/help", *block
    )
    second = process(*arguments, text=text)
    assert second.returncode == 0
    assert "Madrid" in second.stdout
    stats = " ".join(second.stderr.split())
    assert "4 messages" in stats
    assert " 0 recomputed" in stats
    assert "/save NAME" in stats
    where = ("--sessions", str(tmp_path))
    listed = json.loads(braid("session", "list", "--json", *where).stdout)
    assert sorted((item["name"], item["messages"]) for item in listed) == [("more", 6), ("talk", 4)]
    assert "talk" in braid("session", "list", *where).stdout
    assert json.loads(braid("session", "info", "talk", "--json", *where).stdout)["model"] == "smollm2-135m"
    assert "Paris" in braid("session", "export", "talk", *where).stdout
    messages = json.loads(braid("session", "export", "more", "--format", "json", *where).stdout)
    assert [message["role"] for message in messages] == ["user", "assistant"] * 3
    elsewhere = tmp_path / "elsewhere" / "gone.session"
    elsewhere.parent.mkdir()
    assert braid("session", "export", "talk", "--format", "file", "--to", str(elsewhere), *where).exit_code == 0
    assert braid("session", "fork", "gone", "again", "--sessions", str(elsewhere.parent)).exit_code == 0
    assert braid("session", "delete", "talk", *where).exit_code == 0
    assert not (tmp_path / "talk.session").exists()
    arguments, text = chat(elsewhere.parent, "/load again", "And of Spain?")
    assert "Madrid" in braid(*arguments, text=text).stdout
