"""What the README shows of the server runs as it stands."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from benchmarks.serving import Server

README = (Path(__file__).parent.parent.parent / "README.md").read_text()
SECTION = re.findall(r"## As a server\n(.*?)\n## ", README, re.DOTALL)[0]
URL = "http://127.0.0.1:8000"


def test_curl(server: Server) -> None:
    """Oracle: the example as it stands, through curl: an answer that is no error, of at most the tokens asked for."""
    (command,) = re.findall(r"```sh\n(curl .*?)```", SECTION, re.DOTALL)
    assert URL in command and "Content-Type: application/json" in command
    done = subprocess.run(
        ["bash", "-c", command.replace(URL, server.url)], capture_output=True, text=True, timeout=120, check=True
    )
    answer = json.loads(done.stdout)
    assert answer["choices"][0]["message"]["content"]
    assert 0 < answer["usage"]["completion_tokens"] <= json.loads(command.split("-d '")[1].rstrip("'\n"))["max_tokens"]


def test_official_client(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: the example as it stands, through the official client: it prints an answer."""
    (code,) = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)
    assert f"{URL}/v1" in code
    exec(code.replace(URL, server.url), {})  # our own text
    assert len(capsys.readouterr().out) > 20
