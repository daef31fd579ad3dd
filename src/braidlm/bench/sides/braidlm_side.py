"""Side of braidlm, through its public surface: `forward` for a prompt, `stream` and `generate` for what follows."""

import time
from typing import Any

import torch

from ... import __version__
from ...api.language_model import LanguageModel
from ...api.loading import load
from ...checkpoints.saving import Origin
from ..precision import load_options
from .serve import serve


class Braidlm:
    """Side of braidlm (a `serve.Side`)."""

    _model: LanguageModel

    def load(self, path: str, precision: str, threads: int) -> dict[str, Any]:
        """Loads a directory or GGUF file."""
        torch.set_num_threads(threads)
        loaded = load(path, **load_options(precision))
        # Ids only, as for every side; and no id ends a text, so that each run makes all its tokens.
        self._model = LanguageModel(loaded.network, None, Origin())
        return {"library": f"braidlm {__version__}", "setting": precision}

    def prefill(self, length: int) -> float:
        """Seconds of one pass over a prompt: the last token's logits, and the state to go on from."""
        ids = torch.randint(self._model.spec.vocab, (1, length))
        begun = time.perf_counter()
        self._model.forward(ids, state=self._model.new_state(), logits="last")
        return time.perf_counter() - begun

    def decode(self, context: int, tokens: int, batch: int) -> float:
        """Seconds of `tokens` passes of one greedy token for each of `batch` sequences."""
        state = self._model.new_state(batch)
        ids = torch.randint(self._model.spec.vocab, (batch, context))
        last = self._model.forward(ids, state=state, logits="last").argmax(-1)
        begun = time.perf_counter()
        if batch == 1:
            made = [len(list(self._model.stream(last, state=state, max_tokens=tokens)))]
        else:
            made = [
                len(sequence) for sequence in self._model.generate(list(last[:, None]), state=state, max_tokens=tokens)
            ]
        seconds = time.perf_counter() - begun
        assert made == [tokens] * batch
        return seconds


if __name__ == "__main__":
    serve(Braidlm())
