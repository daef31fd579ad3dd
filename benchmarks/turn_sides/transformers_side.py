"""transformers: its models' forward with a cache that is kept from turn to turn.

Where the cache is of keys and values only it is cut back to what an edited chat still shares with it; the states of a
hybrid cannot be, and the chat is run anew. It has no file for a cache: a chat that is taken up is run anew.
"""

import time
from typing import Any

import torch

from braidlm.bench.sides.serve import serve
from braidlm.bench.sides.transformers_side import Transformers


class TransformersTurns(Transformers):
    """See `benchmarks.turn_sides`."""

    _seen: list[int]
    _kept: Any

    def load(self, path: str, precision: str, threads: int) -> dict[str, Any]:
        """As for `braid bench`."""
        about = super().load(path, precision, threads)
        self.begin()
        return about

    def begin(self) -> None:
        """No cache."""
        self._seen, self._kept = [], None

    def turn(self, ids: list[int], ends: list[int], tokens: int) -> dict[str, Any]:
        """It keeps no states at the ends of messages."""
        begun = time.perf_counter()
        shared = self._shared(ids)
        new, made, first = torch.tensor([ids[shared:]]), [], 0.0
        for _ in range(tokens):
            logits, self._kept = self._pass(new, self._kept)
            new = logits.argmax(-1, keepdim=True)
            made.append(int(new))
            first = first or time.perf_counter() - begun
        self._seen = [*ids, *made[:-1]]
        return {"first": first, "ids": made, "run": len(ids) - shared}

    def _shared(self, ids: list[int]) -> int:
        """Tokens of `ids` that the cache holds, after it is cut to them or let go."""
        pairs = zip(self._seen, ids[:-1])
        shared = next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(self._seen), len(ids) - 1))
        if shared < len(self._seen):
            # A layer without keys has a state that has seen everything.
            if all(hasattr(layer, "keys") for layer in self._kept.layers):
                self._kept.crop(shared - len(self._seen))
            else:
                self.begin()
                return 0
        return shared

    def keep(self, path: str) -> None:
        """Nothing is written."""

    def resume(self, path: str, ids: list[int], ends: list[int], tokens: int) -> dict[str, Any]:
        """A cold run."""
        return self.turn(ids, ends, tokens)


if __name__ == "__main__":
    serve(TransformersTurns())
