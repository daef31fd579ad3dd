"""llama.cpp: llama-cpp-python's `Llama.generate`, which goes on from the longest beginning that its context holds.

What its models with recurrent states have seen cannot be taken back; it reads such a prompt anew.
"""

import ctypes
import importlib
import time
from collections.abc import Sequence
from typing import Any

from braidlm.bench.sides.serve import serve

_CONTEXT = 8192


class LlamaCpp:
    """See `benchmarks.turn_sides`."""

    _llama: Any
    _run = 0

    def __init__(self) -> None:
        self._library: Any = importlib.import_module("llama_cpp")

    def load(self, path: str, precision: str, threads: int) -> dict[str, Any]:
        """Opens a GGUF file."""
        self._llama = self._library.Llama(
            path, n_ctx=_CONTEXT, n_threads=threads, n_threads_batch=threads, verbose=False
        )
        evaluate = self._llama.eval

        def counted(tokens: Sequence[int]) -> None:
            self._run += len(tokens)
            evaluate(tokens)

        self._llama.eval = counted
        return {"library": f"llama-cpp-python {self._library.__version__}", "setting": "prefix of its context"}

    def begin(self) -> None:
        """The context is empty."""
        self._llama.reset()

    def turn(self, ids: list[int], ends: list[int], tokens: int) -> dict[str, Any]:
        """It keeps no states at the ends of messages."""
        self._run, made, first, run = 0, [], 0.0, 0
        begun = time.perf_counter()
        for token in self._llama.generate(ids, temp=0.0, repeat_penalty=1.0):
            made.append(token)
            if len(made) == 1:
                first, run = time.perf_counter() - begun, self._run
            if len(made) == tokens:
                break
        return {"first": first, "ids": made, "run": run}

    def keep(self, path: str) -> None:
        """llama.cpp's own state file."""
        seen = self._llama.input_ids[: self._llama.n_tokens].tolist()
        array = (self._library.llama_token * len(seen))(*seen)
        if not self._library.llama_state_save_file(self._llama.ctx, path.encode(), array, len(seen)):
            raise RuntimeError(f"llama.cpp cannot write {path}")

    def resume(self, path: str, ids: list[int], ends: list[int], tokens: int) -> dict[str, Any]:
        """The file, and the texts that it is of, as `Llama.generate` wants to know them."""
        self._llama.reset()
        begun = time.perf_counter()
        seen, count = (self._library.llama_token * _CONTEXT)(), ctypes.c_size_t()
        if not self._library.llama_state_load_file(self._llama.ctx, path.encode(), seen, _CONTEXT, ctypes.byref(count)):
            raise RuntimeError(f"llama.cpp cannot read {path}")
        self._llama.n_tokens = count.value
        self._llama.input_ids[: count.value] = seen[: count.value]
        taken = time.perf_counter() - begun
        done = self.turn(ids, ends, tokens)
        return done | {"first": done["first"] + taken}


if __name__ == "__main__":
    serve(LlamaCpp())
