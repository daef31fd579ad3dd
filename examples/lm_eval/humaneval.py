"""HumanEval's tests (Chen et al. 2021), each in a process of its own, as humaneval.yaml asks for them.

They run what the model wrote, on this machine and with the rights of whoever calls it.
"""

import subprocess
import sys
import tempfile
from typing import Any

_SECONDS = 10.0


def process_results(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Whether a problem's tests pass on the prompt with the model's answer: pass@1 of greedy generation."""
    program = f"{doc['prompt']}{results[0]}\n{doc['test']}\ncheck({doc['entry_point']})\n"
    return {"pass@1": float(passes(program))}


def passes(program: str, seconds: float = _SECONDS) -> bool:
    """Whether a program ends by itself, in time and without an error."""
    with tempfile.TemporaryDirectory(prefix="humaneval-") as place:
        command = [sys.executable, "-I", "-c", program]
        try:
            done = subprocess.run(command, cwd=place, capture_output=True, timeout=seconds, check=False)
        except subprocess.TimeoutExpired:
            return False
    return done.returncode == 0
