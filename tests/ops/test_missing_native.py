"""Where the native extension is missing, that is said once, and everything runs on the reference."""

import os
import subprocess
import sys

import pytest

HIDDEN = "import sys; sys.modules['braidlm._native'] = None; "
LOADED = "import braidlm; print(len(braidlm.load('braid-6m', ops={ops!r}).generate([1, 2], max_tokens=3)))"
SENTENCE = "without native kernels everything runs several times slower: the native extension was not built or does"
RIGHT = "builds them with a C++20 compiler"


def run(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A process of its own, which finds no native extension."""
    kept = {name: value for name, value in os.environ.items() if name != "BRAIDLM_OPS"}
    command = [sys.executable, "-c", HIDDEN + code, *arguments]
    done = subprocess.run(command, env=kept | environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done


def test_it_is_said_once_where_a_model_is_loaded() -> None:
    """Oracle: one warning for two models, at the line that loaded the first; the texts are written all the same."""
    done = run(f"{LOADED.format(ops='auto')}; {LOADED.format(ops='auto')}")
    assert done.stderr.count(SENTENCE) == done.stderr.count(RIGHT) == done.stderr.count("NativeWarning") == 1
    assert done.stderr.startswith("<string>:1: NativeWarning")
    assert len(done.stdout.split()) == 2


@pytest.mark.parametrize(("ops", "environment"), [("auto", {"BRAIDLM_OPS": "reference"}), ("reference", {})])
def test_who_asked_for_the_reference_is_told_nothing(ops: str, environment: dict[str, str]) -> None:
    """Oracle: nothing on standard error."""
    assert run(LOADED.format(ops=ops), **environment).stderr == ""


def test_commands_say_it_in_one_line() -> None:
    """Oracle: one line on standard error beside the text; `braid doctor` has the same sentence in its table alone."""
    main = "from braidlm.cli.main import main; main()"
    done = run(main, "generate", "braid-6m", "The", "--max-tokens", "3")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"braid: warning: {SENTENCE}")
    doctor = run(main, "doctor")
    assert SENTENCE in doctor.stdout and RIGHT in doctor.stdout
    assert doctor.stderr == ""
