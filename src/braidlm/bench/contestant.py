"""Sides of a comparison: processes that hold a model and run tasks on command.

Every side has its own memory, allocator, threads and libraries. A side never runs while another does.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ..errors import UnavailableError

LLAMA_PYTHON = "BRAIDLM_LLAMA_PYTHON"

# The package's parent goes to the end of the path: in another interpreter its own packages come first.
_BOOT = "import runpy, sys; sys.path.append(sys.argv[1]); runpy.run_module(sys.argv[2], run_name='__main__')"
_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Kind:
    """Kind of side, a library to compare: the module that serves it, the precisions that it runs, how to get it."""

    name: str
    module: str
    precisions: tuple[str, ...]
    remedy: str


KINDS = {
    kind.name: kind
    for kind in (
        Kind("braidlm", "braidlm.bench.sides.braidlm_side", ("f32", "bf16", "int8", "int4"), ""),
        Kind(
            "transformers",
            "braidlm.bench.sides.transformers_side",
            ("f32", "bf16"),
            "pip install transformers accelerate gets it",
        ),
        Kind(
            "llama.cpp",
            "braidlm.bench.sides.llama_cpp_side",
            ("f32", "bf16", "int8", "int4"),
            f"pip install llama-cpp-python gets it, or --llama-python (or {LLAMA_PYTHON}) names an interpreter that "
            "has it",
        ),
    )
}


class SideError(UnavailableError):
    """Error of a side that cannot run this model, this precision or this task."""


class Contestant:
    """Process of a running side. Raises `UnavailableError` with one sentence if its library is missing or fails."""

    def __init__(self, kind: Kind, llama_python: str | None = None) -> None:
        self.kind = kind
        other = llama_python or os.environ.get(LLAMA_PYTHON)
        interpreter = other if kind.name == "llama.cpp" and other else sys.executable
        self._errors: IO[str] = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed in `close`)
        try:
            self._process = subprocess.Popen(
                [interpreter, "-c", _BOOT, str(_ROOT), kind.module],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True,
            )  # fmt: skip
        except OSError as error:
            self._errors.close()
            raise UnavailableError(f"the interpreter {interpreter} cannot be run: {error.strerror}") from None

    def __enter__(self) -> "Contestant":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def load(self, path: Path, precision: str, threads: int) -> dict[str, Any]:
        """Opens the model's files; gives facts about the library and its settings."""
        return dict(self.ask("load", {"path": str(path), "precision": precision, "threads": threads}))

    def prefill(self, length: int) -> float:
        """Seconds of one pass over a prompt, with the last token's logits and the state to go on from."""
        return float(self.ask("prefill", {"length": length}))

    def decode(self, context: int, tokens: int, batch: int) -> float:
        """Seconds of `tokens` passes of one greedy token for each of `batch` sequences after `context` tokens."""
        return float(self.ask("decode", {"context": context, "tokens": tokens, "batch": batch}))

    def memory(self) -> dict[str, int]:
        """Memory of the process in bytes: "now", and at its "peak"."""
        return dict(self.ask("memory", {}))

    def ask(self, do: str, arguments: Mapping[str, Any]) -> Any:
        """Sends one command; gives the answer."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise UnavailableError(self._ended())
        answer = json.loads(line)
        if "error" in answer:
            raise SideError(f"{self.kind.name} failed to {do}: {answer['error']}")
        return answer["ok"]

    def _ended(self) -> str:
        """Reason that there is no answer, from what the process wrote last."""
        code = self._process.wait()
        self._errors.seek(0)
        said = [line.strip() for line in self._errors.read().splitlines() if line.strip()]
        last = said[-1] if said else f"exit code {code}"
        if last.startswith(("ModuleNotFoundError", "ImportError")):
            return f"{self.kind.name} is not installed there ({last.partition(': ')[2]}); {self.kind.remedy}"
        return f"{self.kind.name} ended before it answered ({last})"

    def close(self) -> None:
        """Ends the process and waits until its memory is free."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                stream.close()
