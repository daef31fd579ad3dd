"""Adapters and learned states by request: what runs side by side is what runs alone."""

from pathlib import Path

import pytest
import torch

import braidlm
from braidlm.decode.slots import PlainSlots
from braidlm.engine import Limits, Request
from braidlm.errors import BraidError
from braidlm.generation.sampling import Sampling
from tests.adapters.models import close, loaded, logits
from tests.tolerances import RELATIVE_LOGITS

PROMPT = tuple(range(3, 40))
FAMILIES = ["mamba", "mamba2", "stripedhyena", "hymba", "bamba", "granitemoehybrid", "llama"]


WAYS = [(None, None), ("one", None), ("two", None), (None, "task"), ("two", "task")]


@pytest.mark.parametrize("family", FAMILIES)
def test_side_by_side_is_alone(family: str, tmp_path: Path) -> None:
    """Oracle: each variant's text alone, by the model with the adapter on it; requests share prompts and steps.

    The prompt has been read for every variant when it comes again, so that a state taken for another's would be seen.
    """
    language = loaded(family, tmp_path)
    alone = {}
    for way in WAYS:
        alone[way] = language.using(*way).generate(list(PROMPT), max_tokens=12)
    # Granite's blocks add a fifth of what they compute: a state that was learned elsewhere changes no token of it.
    assert len({tuple(text) for text in alone.values()}) == (3 if family == "granitemoehybrid" else len(WAYS))
    sampling = Sampling(max_tokens=12)
    with language.engine(limits=Limits(parallel=8, prefill_chunk=16, snapshot_interval=8)) as engine:
        for _ in range(2):
            handles = {
                way: engine.submit(Request(ids=PROMPT, sampling=sampling, adapter=way[0], initial=way[1]))
                for way in WAYS
            }
            for way, handle in handles.items():
                assert [token.id for _, token in handle] == alone[way], way
        assert all(t.usage is not None and t.usage.cached > 0 for t in handles.values())


def test_a_failure_in_one_lane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: each text alone; a step of the adapter's rows fails at one of them, when the model's own have moved."""
    language = loaded("mamba2", tmp_path)
    expected = [language.using(adapter).generate(list(PROMPT), max_tokens=12) for adapter in (None, "one")]
    broken, step = 2, PlainSlots.step

    def breaks(self: PlainSlots, ids: torch.Tensor, slots: list[int]) -> torch.Tensor:
        return step(self, ids.masked_fill(ids == broken, 1 << 20), slots)

    assert not any(broken in text for text in expected)
    monkeypatch.setattr(PlainSlots, "step", breaks)
    asked = [(PROMPT, None), ((*PROMPT[:4], broken), "one"), (PROMPT, "one")]
    requests = [Request(ids=ids, sampling=Sampling(max_tokens=12), adapter=adapter) for ids, adapter in asked]
    with language.engine(limits=Limits(parallel=8, prefill_chunk=64)) as engine:
        first, bad, last = [engine.submit(request) for request in requests]
        assert [[token.id for _, token in handle] for handle in (first, last)] == expected
        with pytest.raises(IndexError):
            list(bad)


def test_using_is_merged(tmp_path: Path) -> None:
    """Oracle: the model with the change in its weights; the model itself is what it was."""
    language = loaded("bamba", tmp_path)
    with torch.no_grad():
        plain = logits(language.network)
        adapted = logits(language.using("one").network)
        assert torch.equal(logits(language.network), plain)
        adapters = braidlm.adapters.load_adapter(language.network, tmp_path / "one")
        adapters.put_on()
        adapters.merge()
        close(logits(language.network), adapted, RELATIVE_LOGITS[torch.float32])
        # The weights are others now: so is what the adapter is put on.
        with pytest.raises(AssertionError):
            close(logits(language.using("one").network), adapted, RELATIVE_LOGITS[torch.float32])


def test_states_never_mix(tmp_path: Path) -> None:
    """Oracle: a sentence for a state begun with another variant, in every direction."""
    language = loaded("mamba2", tmp_path)
    several = [language.using(*way) for way in WAYS]
    states = [one.new_state() for one in several]
    for i, one in enumerate(several):
        for j, state in enumerate(states):
            if i == j:
                one.forward([[1, 2]], state=state)
            else:
                with pytest.raises(BraidError, match="another model"):
                    one.forward([[1, 2]], state=state)


def test_packed_weights_beside_an_adapter(tmp_path: Path) -> None:
    """Oracle: the model with the adapter alone; weights that were quantized afterwards are taken up."""
    language = loaded("bamba", tmp_path)
    before = language.using("one").network
    language.quantize("int8")
    adapted = language.using("one")
    assert adapted.network is not before
    text = adapted.generate(list(PROMPT), max_tokens=8)
    with language.engine() as engine:
        handle = engine.submit(Request(ids=PROMPT, sampling=Sampling(max_tokens=8), adapter="one"))
        assert [token.id for _, token in handle] == text


def test_refusals(tmp_path: Path) -> None:
    """Oracle: one sentence that says what there is."""
    language = loaded("mamba", tmp_path)
    with pytest.raises(BraidError, match="there is an adapter 'one' already"):
        language.load_adapter("one", tmp_path / "one")
    with pytest.raises(BraidError, match="no adapter 'three'; there are one, two"):
        language.using("three")
    with language.engine() as engine, pytest.raises(BraidError, match="no initial state 'x'; there are task"):
        engine.submit(Request(ids=(1,), sampling=Sampling(max_tokens=1), initial="x"))
