"""Commands of `braid`: called in this process, through their entry point, and as a process of their own."""

import json
import subprocess
import sys
import warnings
from typing import Any, NamedTuple

import pytest
from typer.testing import CliRunner, Result

from braidlm.cli.main import app, main


class Ended(NamedTuple):
    """What a command's entry point left behind."""

    returncode: int
    stdout: str
    stderr: str


def braid(*arguments: str, text: str | None = None) -> Result:
    """Runs a command in this process; errors on purpose come out as exceptions."""
    return CliRunner().invoke(app, list(arguments), input=text)


def data(*arguments: str) -> dict[str, Any]:
    """What a command reports with --json."""
    result = braid(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def entry(capfd: pytest.CaptureFixture[str], *arguments: str) -> Ended:
    """Runs the command line's entry point in this process: errors on purpose end in a sentence and an exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["braid", *arguments])
        patch.setattr(warnings, "formatwarning", warnings.formatwarning)  # which the entry point replaces
        with pytest.raises(SystemExit) as ended:
            main()
    said = capfd.readouterr()
    return Ended(int(ended.value.code or 0), said.out, said.err)


def process(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    """Runs a command as a user does, in a process of its own: seconds of imports, for what only a process shows."""
    command = [sys.executable, "-c", "from braidlm.cli.main import main; main()", *arguments]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=120, check=False)
