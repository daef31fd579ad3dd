"""HumanEval's tests (Chen et al. 2021), each in a process of its own, as humaneval.yaml asks for them.

They run what the model wrote, on this machine and with the rights of whoever calls it.
"""

import secrets
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

_SECONDS = 10.0


def process_results(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Whether a problem's tests pass on the prompt with the model's answer: pass@1 of greedy generation."""
    program = f"{doc['prompt']}{results[0]}\n{doc['test']}\ncheck({doc['entry_point']})\n"
    return {"pass@1": float(passes(program))}


def passes(program: str, seconds: float = _SECONDS) -> bool:
    """Whether a program runs to its last line and ends, in time and without an error; what it prints is dropped.

    An added last line writes a random word to a file, so that one that leaves earlier does not pass, with whatever
    exit code.
    """
    with tempfile.TemporaryDirectory(prefix="humaneval-") as place:
        file, end, word = Path(place, "program.py"), Path(place, "end"), secrets.token_hex()
        file.write_text(f"{program}\n__import__('pathlib').Path({str(end)!r}).write_text({word!r})\n", encoding="utf-8")
        try:
            done = subprocess.run(
                [sys.executable, "-I", str(file)],
                cwd=place,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0 and end.is_file() and end.read_text(errors="replace") == word
