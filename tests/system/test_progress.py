"""Bars for what takes long: where somebody watches, and nowhere else."""

import os
import pty
import subprocess
import sys

import pytest

from braidlm.system.progress_bar import progress

# Bars are not waited for.
LOAD = "import braidlm, braidlm.system.progress_bar as bar; bar._PATIENCE_S = -1.0; braidlm.load('braid-6m'{options})"


def on_a_terminal(options: str = "", **environment: str) -> str:
    """What a process that loads a model writes to its standard error, which is a terminal."""
    screen, terminal = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", LOAD.format(options=options)],
        stderr=terminal, env={**os.environ, "TERM": "xterm", **environment},
    ) as child:  # fmt: skip
        os.close(terminal)
        written = b""
        try:
            while part := os.read(screen, 4096):
                written += part
        except OSError:  # how the other end of a terminal goes away
            pass
    os.close(screen)
    assert child.returncode == 0, written
    return written.decode()


def test_a_bar_is_shown_on_a_terminal() -> None:
    """Oracle: the sign that rich draws a bar with, and what it is about."""
    shown = on_a_terminal()
    assert "loading braid-6m" in shown and "━" in shown


@pytest.mark.parametrize(("options", "environment"), [(", progress=False", {}), ("", {"BRAIDLM_PROGRESS": "0"})])
def test_a_bar_can_be_done_without(options: str, environment: dict[str, str]) -> None:
    """Oracle: silence on a terminal."""
    assert on_a_terminal(options, **environment) == ""


def test_no_bar_in_a_pipe(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Oracle: silence, however long it takes."""
    monkeypatch.setattr("braidlm.system.progress_bar._PATIENCE_S", -1.0)
    with progress("loading") as step:
        step(1, 2)
    assert capfd.readouterr() == ("", "")
