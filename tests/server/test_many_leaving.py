"""Many clients at once of whom half leave, for a moment; `benchmarks.leaving` does it for minutes."""

import asyncio
import math
import os
from dataclasses import replace
from pathlib import Path

from benchmarks.leaving import alone, questions, under_load

from braidlm import LanguageModel
from braidlm.engine import Limits
from tests.server.local import model, serving

# So little memory that states are dropped meanwhile.
LIMITS = Limits(parallel=4, snapshot_interval=16, prefill_chunk=32, cache_memory=1 << 18)
KINDS = 3


def test_many_of_whom_half_leave(tmp_path: Path) -> None:
    """Oracle: the same questions asked alone of a server that keeps nothing: same texts, or beginnings of them."""
    made = model(family="bamba")
    served = LanguageModel(made.network, made.tokenizer, made.origin, deterministic=True)
    asked = questions(seed=2, longest=20, answer=12, many=KINDS)
    with serving(served, tmp_path / "alone", replace(LIMITS, cache_memory=0)) as server:
        asyncio.run(alone(server.url, asked))
    assert all(len(question.answers) == (3 if question.goes_on else 1) for question in asked)
    with serving(served, tmp_path / "loaded", LIMITS) as server:
        found = asyncio.run(under_load(server.url, os.getpid(), asked, clients=8, seed=1, seconds=math.inf, each=4))
        server.idle()
        assert server.get("/v1/sessions").json()["data"] == []
    assert found.wrong == []
    assert found.whole + found.left == 32 + 2 * found.forks
    assert found.left >= 8 and found.forks > 0
    assert set(found.statuses) <= {200, 201, 409}
    assert len(set().union(*(question.answers for question in asked))) > KINDS  # answers differ
