"""braidlm: its engine, with a session's file for what is kept on disk."""

import time
from pathlib import Path
from typing import Any

import torch

import braidlm
from braidlm.bench.sides.serve import serve
from braidlm.engine import Engine, Request, Snapshot
from braidlm.generation.sampling import Sampling
from braidlm.sessions import Session
from braidlm.sessions.session import read_session, write_session


class Braidlm:
    """See `benchmarks.turn_sides`."""

    _engine: Engine
    _snapshots: tuple[Snapshot, ...] = ()

    def load(self, path: str, precision: str, threads: int) -> dict[str, Any]:
        """Opens a directory."""
        torch.set_num_threads(threads)
        self._engine = braidlm.load(path, dtype=precision).engine()
        return {"library": f"braidlm {braidlm.__version__}", "setting": "engine with its usual gibibyte of states"}

    def begin(self) -> None:
        """What other chats left stays in the cache."""
        self._snapshots = ()

    def turn(
        self, ids: list[int], ends: list[int], tokens: int, snapshots: tuple[Snapshot, ...] = ()
    ) -> dict[str, Any]:
        """States are kept where messages end."""
        begun, first, made = time.perf_counter(), 0.0, []
        handle = self._engine.submit(
            Request(
                ids=tuple(ids), sampling=Sampling(max_tokens=tokens), message_boundaries=tuple(ends),
                snapshots=snapshots, wants_snapshots=True,
            )
        )  # fmt: skip
        for _, token in handle:
            first = first or time.perf_counter() - begun
            made.append(token.id)
        assert handle.usage is not None
        self._snapshots = handle.snapshots
        return {"first": first, "ids": made, "run": handle.usage.recomputed + handle.usage.computed}

    def keep(self, path: str) -> None:
        """A session's file."""
        seen = self._snapshots[-1].ids
        write_session(Path(path), Session(ids=seen), self._snapshots, self._engine.owner, "")

    def resume(self, path: str, ids: list[int], ends: list[int], tokens: int) -> dict[str, Any]:
        """In an engine that has never seen the chat."""
        begun = time.perf_counter()
        snapshots = read_session(Path(path), self._engine.owner).snapshots
        taken = time.perf_counter() - begun
        done = self.turn(ids, ends, tokens, snapshots)
        return done | {"first": done["first"] + taken}


if __name__ == "__main__":
    serve(Braidlm())
