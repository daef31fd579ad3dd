"""Side of llama.cpp, through the C functions that llama-cpp-python exposes: no sampler, no text, no copy of the logits.

A prompt is cut into physical batches of the size that is fastest here, which is tried once for
each length; that is the setting on which its speed depends most.
"""

import ctypes
import importlib
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from .serve import serve

_UBATCHES = (64, 128, 256, 512, 1024, 2048)
_QUANTIZED = {"int8": "LLAMA_FTYPE_MOSTLY_Q8_0", "int4": "LLAMA_FTYPE_MOSTLY_Q4_0"}
_PADDING = 256  # a context's length is a multiple of it


class LlamaCpp:
    """Side of llama.cpp (a `serve.Side`); `library` is the module llama_cpp."""

    def __init__(self) -> None:
        self.library: Any = importlib.import_module("llama_cpp")
        self._quiet = self.library.llama_log_callback(lambda level, text, data: None)
        self.library.llama_log_set(self._quiet, None)
        self.library.llama_backend_init()
        self._contexts: dict[tuple[int, int, int], Any] = {}
        self._ubatch: dict[int, int] = {}

    def quantize(self, source: str, target: str, precision: str, threads: int) -> None:
        """Writes a quantized copy of a GGUF file, with llama.cpp's own choice of what to keep wider."""
        params = self.library.llama_model_quantize_default_params()
        params.ftype, params.nthread = getattr(self.library, _QUANTIZED[precision]), threads
        if self.library.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(params)):
            raise RuntimeError(f"llama.cpp cannot quantize {source}")

    def load(self, path: str, precision: str, threads: int) -> dict[str, Any]:
        """Loads a GGUF file, whose own types say how precise it is."""
        self._threads = threads
        self._model = self.library.llama_model_load_from_file(path.encode(), self.library.llama_model_default_params())
        if not self._model:
            raise RuntimeError(f"llama.cpp cannot load {path}")
        vocab = self.library.llama_model_get_vocab(self._model)
        self._vocab = int(self.library.llama_vocab_n_tokens(vocab))
        kind = {"int8": "Q8_0", "int4": "Q4_0"}.get(precision, precision)
        return {"library": f"llama-cpp-python {self.library.__version__}", "setting": kind}

    def _context(self, length: int, sequences: int, ubatch: int) -> Any:
        """A context for `sequences` sequences of at most `length` tokens, empty; made once."""
        key = (length, sequences, ubatch)
        if key not in self._contexts:
            params = self.library.llama_context_default_params()
            params.n_ctx = sequences * (-(-length // _PADDING) * _PADDING)
            params.n_batch, params.n_ubatch, params.n_seq_max = max(ubatch, length), ubatch, sequences
            params.n_threads = params.n_threads_batch = self._threads
            self._contexts[key] = self.library.llama_init_from_model(self._model, params)
            if not self._contexts[key]:
                raise RuntimeError(f"llama.cpp cannot make a context of {length} tokens for {sequences} sequences")
        context = self._contexts[key]
        self.library.llama_memory_clear(self.library.llama_get_memory(context), True)
        return context

    def _run(self, context: Any, tokens: Sequence[int], sequences: Sequence[int], begin: int) -> None:
        """One pass over tokens of the given sequences (all in order of position from `begin`); logits of the last."""
        batch = self.library.llama_batch_init(len(tokens), 0, 1)
        seen: dict[int, int] = {}
        for i, (token, sequence) in enumerate(zip(tokens, sequences)):
            batch.token[i], batch.n_seq_id[i], batch.seq_id[i][0] = token, 1, sequence
            batch.pos[i] = begin + seen.get(sequence, 0)
            seen[sequence] = seen.get(sequence, 0) + 1
            last = i + 1 == len(tokens) or sequences[i + 1] != sequence
            batch.logits[i] = last
        batch.n_tokens = len(tokens)
        failed = self.library.llama_decode(context, batch)
        self.library.llama_batch_free(batch)
        if failed:
            raise RuntimeError(f"llama.cpp's decode gave {failed}")

    def _logits(self, context: Any, place: int) -> np.ndarray:
        """The logits of the token at `place` of the last pass: a view."""
        return np.ctypeslib.as_array(self.library.llama_get_logits_ith(context, place), (self._vocab,))

    def last_logits(self, tokens: Sequence[int]) -> np.ndarray:
        """The logits after a prompt, to hold against another implementation's."""
        context = self._context(len(tokens), 1, _UBATCHES[0])
        self._run(context, tokens, [0] * len(tokens), 0)
        return self._logits(context, len(tokens) - 1).copy()

    def _prefill(self, length: int, ubatch: int) -> float:
        context = self._context(length, 1, ubatch)
        tokens = np.random.default_rng().integers(self._vocab, size=length).tolist()
        begun = time.perf_counter()
        self._run(context, tokens, [0] * length, 0)
        self._logits(context, length - 1).argmax()
        return time.perf_counter() - begun

    def prefill(self, length: int) -> float:
        """Seconds of one pass over a prompt: the last token's logits, and the state to go on from."""
        if length not in self._ubatch:
            self._ubatch[length] = self._fastest_ubatch(length)
        return self._prefill(length, self._ubatch[length])

    def _fastest_ubatch(self, length: int) -> int:
        sizes = [size for size in _UBATCHES if size < 2 * length] or [_UBATCHES[0]]
        seconds = {size: min(self._prefill(length, size) for _ in range(2)) for size in sizes}
        best = min(seconds, key=lambda size: seconds[size])
        for key in [key for key in self._contexts if key[2] != best]:
            self.library.llama_free(self._contexts.pop(key))
        return best

    def decode(self, context: int, tokens: int, batch: int) -> float:
        """Seconds of `tokens` passes of one greedy token for each of `batch` sequences."""
        here = self._context(context + tokens + 1, batch, min(512, max(_UBATCHES[0], context)))
        random = np.random.default_rng()
        for sequence in range(batch):
            self._run(here, random.integers(self._vocab, size=context).tolist(), [sequence] * context, 0)
        last = random.integers(self._vocab, size=batch).tolist()
        sequences = list(range(batch))
        begun = time.perf_counter()
        for step in range(tokens):
            self._run(here, last, sequences, context + step)
            last = [int(self._logits(here, sequence).argmax()) for sequence in sequences]
        return time.perf_counter() - begun


if __name__ == "__main__":
    serve(LlamaCpp())
