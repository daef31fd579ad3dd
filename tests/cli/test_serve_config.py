"""Configuration of `braid serve`: a file, the command line over it, and the page that has its settings."""

import pickle
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest
import typer
from benchmarks.serving import started
from typer.testing import CliRunner

from braidlm.cli.options import with_options
from braidlm.cli.serve import HostMaker
from braidlm.cli.serve_config import PANELS, read_config
from braidlm.errors import InputError
from braidlm.server.settings import Settings
from braidlm.system.settings import settings_of

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "serve.toml"
BRAID = "from braidlm.cli.main import main; main()"


def written(directory: Path, text: str) -> Path:
    file = directory / "serve.toml"
    file.write_text(text)
    return file


def test_a_name_is_of_one_setting() -> None:
    """Oracle: the names of all settings, each once."""
    names = [name for kind in PANELS.values() for name in settings_of(kind)]
    assert len(names) == len(set(names)) and not {"model", "config", "help"} & set(names)


def test_file_and_command_line(tmp_path: Path) -> None:
    """Oracle: by hand; what is given on the command line holds, then the file, then the defaults."""
    text = 'model = "smollm2-135m"\nparallel = 4\nmemory = "2GiB"\nsessions = "talks"\nlog_prompts = true\n'
    text += 'api_key = ["a"]\n[adapter]\np = "runs/p"\n'
    found = read_config(written(tmp_path, text), None, {"parallel": 3})
    assert (found.model, found.settings.name, found.settings.api_keys) == ("smollm2-135m", "smollm2-135m", ("a",))
    assert (found.limits.parallel, found.limits.memory, found.limits.max_queue) == (3, 2 << 30, 256)
    assert (found.process.sessions, found.process.adapters) == (tmp_path / "talks", {"p": tmp_path / "runs/p"})
    assert found.settings.log_prompts and set(found.settings.models) == {"smollm2-135m", "smollm2-135m:p"}
    assert read_config(tmp_path / "serve.toml", "granite", {}).model == "granite"
    assert not read_config(tmp_path / "serve.toml", None, {"log_prompts": False}).settings.log_prompts


def test_a_model_beside_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: by hand: a path is relative to the file, and absolute from then on; a name stays one."""
    (tmp_path / "here").mkdir()
    file = written(tmp_path, 'model = "here"')
    monkeypatch.chdir(tmp_path.parent)
    assert read_config(file, None, {}).model == str(tmp_path / "here")
    assert read_config(written(tmp_path, 'model = "gone"'), None, {}).model == "gone"


def test_a_name_longer_than_any_file(tmp_path: Path) -> None:
    """Oracle: the name itself, in a file and on the command line: a file system refuses to be asked for it."""
    name = "n" * 5000
    assert read_config(written(tmp_path, f'model = "{name}"'), None, {}).model == name
    assert read_config(None, name, {}).model == name


def test_a_flag_and_its_opposite() -> None:
    """Oracle: by hand: the opposite holds; a setting that gets no option gets no opposite."""
    seen: list[dict[str, Any]] = []
    app = typer.Typer()

    @app.command()
    @with_options({"API": Settings}, without=("share_prefix_cache",), over_file=True)
    def command(**given: Any) -> None:
        """Keeps what was given."""
        seen.append(given)

    assert CliRunner().invoke(app, ["--log-prompts", "--no-log-prompts"]).exit_code == 0
    assert seen == [{"log_prompts": False}]
    assert CliRunner().invoke(app, ["--no-share-prefix-cache"]).exit_code == 2


def test_replicas_take_the_same_settings() -> None:
    """Oracle: the configuration itself, after the way that it takes to a replica."""
    maker = HostMaker(read_config(EXAMPLE, None, {"replicas": 2}))
    assert pickle.loads(pickle.dumps(maker)).config == maker.config
    host = maker(2)
    assert (host.settings, host._limits) == (maker.config.settings, maker.config.limits)


@pytest.mark.parametrize(
    ("text", "given", "sentence"),
    [
        ("paralel = 3", {}, "serve.toml has the unknown setting 'paralel'; did you mean 'parallel'?"),
        ("parallel = 0", {}, "serve.toml: parallel is 0, but must be 1 or more"),
        ("memory = 1.5", {}, "serve.toml: memory is 1.5, but must be a whole number, 1 or more"),
        ("port = 70000", {}, "serve.toml: port is 70000, but must be from 0 to 65535"),
        ("model = 3", {}, "serve.toml: model is 3, but must be a model's path or name"),
        ("parallel = 2", {}, "no model is named; give MODEL, or --config FILE with the key model"),
        ('model = "m"\nray_address = "here:1"', {}, "say how many with --replicas"),
        ('model = "m"\ntool_format = "xml"', {}, "xml"),
        ('model = "m"', {"api_key": ("a b",)}, "an API key must be of printable ASCII characters without spaces"),
    ],
)
def test_what_is_wrong_is_said(text: str, given: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    """Oracle: the sentence, which names the file and the key."""
    with pytest.raises(InputError) as caught:
        read_config(written(tmp_path, text), None, given)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--memory", "lots"], "braid: --memory is 'lots', but must be an amount of memory: 4GiB, 512MiB or a number"),
        (["--adapter", "poems"], "braid: --adapter 'poems' is not of the form NAME=PLACE with a name of its own"),
        (["--adapter", "a=b", "--adapter", "a=c"], "braid: --adapter 'a=c' is not of the form NAME=PLACE"),
        (["--config", "none.toml"], "braid: cannot read none.toml: "),
    ],
)
def test_wrong_options(options: list[str], sentence: str, tmp_path: Path) -> None:
    """Oracle: one sentence and exit code 2."""
    command = [sys.executable, "-c", BRAID, "serve", "m", *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=100)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith(sentence)


def test_the_example_serves(tmp_path: Path) -> None:
    """Oracle: what the file says, of a running server; the command line has other values for a port and threads."""
    options = ["--config", str(EXAMPLE), "--port", "0", "--threads", "1", "--sessions", str(tmp_path / "sessions")]
    server = started([sys.executable, "-c", BRAID, "serve", *options], tmp_path / "log")
    asked = {"prompt": "word " * 5000, "max_tokens": 1}
    try:
        server.await_ready()
        assert httpx2.get(f"{server.url}/info").status_code == 401
        with httpx2.Client(base_url=server.url, headers={"Authorization": "Bearer change-me"}, timeout=60) as client:
            assert client.get("/info").json()["model"] == "small"
            assert "4096" in client.post("/v1/completions", json=asked).json()["error"]["message"]
            answer = client.post("/v1/completions", json=asked | {"prompt": "A word", "model": "small"})
            assert answer.json()["usage"]["completion_tokens"] == 1
    finally:
        server.end()


def test_page_of_the_settings() -> None:
    """Oracle: the table that `docs/settings.py` makes of the descriptions as they are now."""
    page = runpy.run_path(str(ROOT / "docs" / "settings.py"))
    assert page["PAGE"].read_text() == page["with_table"](page["PAGE"].read_text()), "run `python docs/settings.py`"
