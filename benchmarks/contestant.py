"""One side of a comparison, in a process of its own: loads a checkpoint, then runs when it is told to.

Every side has its own memory, allocator settings and libraries, and never runs beside another.
Started by `Contestant`; speaks JSON lines on its standard streams.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch


class Contestant:
    """A process that loads `directory` with `library` and times passes over prompts."""

    def __init__(self, library: str, directory: Path, dtype: str) -> None:
        command = [sys.executable, "-m", "benchmarks.contestant", library, str(directory), dtype]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._read()

    def prefill(self, length: int) -> float:
        """Seconds of one pass over a prompt, with the last token's logits and the state that generation needs."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{length}\n")
        self._process.stdin.flush()
        return float(self._read()["seconds"])

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.wait()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                return dict(json.loads(line))
        raise RuntimeError("a contestant ended before it answered")


def _braidlm(directory: str, dtype: str) -> Any:
    import braidlm

    model = braidlm.load(directory, dtype=dtype)
    return model.spec.vocab, lambda ids: model.forward(ids, state=model.new_state(), logits="last")


def _transformers(directory: str, dtype: str) -> Any:
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=getattr(torch, dtype)).eval()
    return model.config.vocab_size, lambda ids: model(ids, use_cache=True, logits_to_keep=1)


def _main(library: str, directory: str, dtype: str) -> None:
    torch.set_grad_enabled(False)
    vocab, run = {"braidlm": _braidlm, "transformers": _transformers}[library](directory, dtype)
    print(json.dumps({"ready": library}), flush=True)
    for line in sys.stdin:
        ids = torch.randint(vocab, (1, int(line)))
        begun = time.perf_counter()
        run(ids)
        print(json.dumps({"seconds": time.perf_counter() - begun}), flush=True)


if __name__ == "__main__":
    _main(*sys.argv[1:])
