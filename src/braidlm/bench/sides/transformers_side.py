"""Side of transformers, eagerly, by its models' own forward: faster than its `generate`, which wraps the same calls.

Its Mamba-1 scans a prompt token by token unless the package mambapy is there; then both ways are
tried and the faster one is kept.
"""

import importlib.util
import inspect
import time
from typing import Any

import torch

from .serve import serve

_DTYPES = {"bf16": torch.bfloat16, "f32": torch.float32}
_TRIAL = 128


class Transformers:
    """Side of transformers (a `serve.Side`)."""

    _model: Any
    _cache: str

    def load(self, path: str, precision: str, threads: int) -> dict[str, Any]:
        """Loads a Hugging Face directory."""
        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        transformers: Any = importlib.import_module("transformers")
        self._model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=_DTYPES[precision]).eval()
        known = inspect.signature(self._model.forward).parameters
        self._cache = "cache_params" if "cache_params" in known else "past_key_values"
        setting = f"{precision}, eager" + self._choose_scan()
        return {"library": f"transformers {transformers.__version__}", "setting": setting}

    def _choose_scan(self) -> str:
        mixers = [module for module in self._model.modules() if hasattr(module, "use_mambapy")]
        if not mixers:
            return ""
        seconds = {}
        for choice in (False, True):
            for mixer in mixers:
                mixer.use_mambapy = choice
            try:
                self.prefill(_TRIAL)
                seconds[choice] = self.prefill(_TRIAL)
            except (RuntimeError, TypeError):  # mambapy's result cannot be multiplied by bfloat16 in some versions
                continue
        best = min(seconds, key=lambda choice: seconds[choice])
        for mixer in mixers:
            mixer.use_mambapy = best
        if best and importlib.util.find_spec("mambapy"):
            return ", scan by mambapy"
        return ", scan token by token" + ("" if True in seconds else " (by mambapy it fails)")

    def _pass(self, ids: torch.Tensor, cache: Any) -> tuple[torch.Tensor, Any]:
        out = self._model(ids, use_cache=True, logits_to_keep=1, **{self._cache: cache})
        return out.logits[:, -1], out[self._cache]

    def prefill(self, length: int) -> float:
        """Seconds of one pass over a prompt: the last token's logits, and the state to go on from."""
        ids = torch.randint(self._model.config.vocab_size, (1, length))
        begun = time.perf_counter()
        self._pass(ids, None)
        return time.perf_counter() - begun

    def decode(self, context: int, tokens: int, batch: int) -> float:
        """Seconds of `tokens` passes of one greedy token for each of `batch` sequences."""
        logits, cache = self._pass(torch.randint(self._model.config.vocab_size, (batch, context)), None)
        begun = time.perf_counter()
        for _ in range(tokens):
            logits, cache = self._pass(logits.argmax(-1, keepdim=True), cache)
        logits.argmax(-1)
        return time.perf_counter() - begun


if __name__ == "__main__":
    serve(Transformers())
