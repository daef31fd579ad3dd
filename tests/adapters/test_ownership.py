"""States of one owner at another: refused wherever a state comes in, and nothing is spoilt by the attempt."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import braidlm
from braidlm import LanguageModel
from braidlm.engine import Engine, Limits, Request, RequestHandle, Snapshot
from braidlm.errors import InputError, StateError
from braidlm.generation.sampling import Sampling
from braidlm.sessions import Chats, Session, SessionStore
from tests.adapters.models import loaded
from tests.families.tiny import tiny
from tests.sessions.chats import chat_model

PROMPT = tuple(range(3, 30))
SAMPLING = Sampling(max_tokens=6)
WAYS = {
    "the model itself": {},
    "adapter 'one'": {"adapter": "one"},
    "adapter 'two'": {"adapter": "two"},
    "initial state 'task'": {"initial": "task"},
    "adapter 'one' and initial state 'task'": {"adapter": "one", "initial": "task"},
}
LIMITS = Limits(parallel=4, snapshot_interval=8, prefill_chunk=16)


@pytest.fixture(scope="module", params=["bamba", "llama"])
def language(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return loaded(request.param, tmp_path_factory.mktemp("beside"))


@pytest.fixture
def engine(language: LanguageModel) -> Iterator[Engine]:
    with language.engine(limits=LIMITS) as engine:
        yield engine


def ids(handle: RequestHandle) -> list[int]:
    return [token.id for _, token in handle]


def snapshots_of(engine: Engine, **more: str) -> tuple[Snapshot, ...]:
    handle = engine.submit(Request(ids=PROMPT, sampling=SAMPLING, wants_snapshots=True, **more))
    list(handle)
    handle.wait()
    return handle.snapshots


@pytest.mark.parametrize("name", WAYS)
def test_every_other_variant_refuses(language: LanguageModel, engine: Engine, name: str) -> None:
    """Oracle: the sentence, which names both owners; then each variant's text by an engine that was never asked so."""
    snapshots = snapshots_of(engine, **WAYS[name])
    longer = (*snapshots[-1].ids, 5, 6)
    for other, way in WAYS.items():
        request = Request(ids=longer, sampling=SAMPLING, snapshots=snapshots, **way)
        if other == name:
            assert ids(engine.submit(request))
            continue
        with pytest.raises(StateError) as refused:
            engine.submit(request)
        assert f"it is of {name} (" in str(refused.value)
        assert f"but this is {other} (" in str(refused.value)
    for way in WAYS.values():
        alone = Request(ids=longer, sampling=SAMPLING, **way)
        with language.engine(limits=LIMITS) as fresh:
            expected = ids(fresh.submit(alone))
        assert ids(engine.submit(alone)) == expected


def test_other_precisions_and_models_refuse(language: LanguageModel, engine: Engine) -> None:
    """Oracle: the sentence that names both; and that the same weights at the same precision take them."""
    snapshots = snapshots_of(engine)
    request = Request(ids=(*snapshots[-1].ids, 5), sampling=SAMPLING, snapshots=snapshots)
    with language.engine("int8", limits=LIMITS) as narrow, pytest.raises(StateError, match=r"float32 keys.*not .*int8"):
        narrow.submit(request)
    with language.engine(limits=LIMITS) as same:
        assert ids(same.submit(request)) == ids(engine.submit(request))
    other = braidlm.build(language.spec, seed=9)
    with other.engine(limits=LIMITS) as engine_of_other, pytest.raises(StateError, match="another model"):
        engine_of_other.submit(request)
    unowned = Snapshot(snapshots[-1].ids, replace(snapshots[-1].state, identity=None))
    with pytest.raises(StateError, match="does not say what computed it"):
        engine.submit(replace(request, snapshots=(unowned,)))


def test_weights_that_changed_since(language: LanguageModel) -> None:
    """Oracle: the sentence: states of weights that are no more belong to another model."""
    model = braidlm.build(language.spec, seed=3)
    with model.engine(limits=LIMITS) as engine:
        snapshots = snapshots_of(engine)
        with torch.no_grad():
            model.network.norm.weight.mul_(1.5)
        with pytest.raises(StateError, match="another model"):
            engine.submit(Request(ids=(*snapshots[-1].ids, 5), sampling=SAMPLING, snapshots=snapshots))


def test_a_narrower_computation_refuses() -> None:
    """Oracle: the sentence: weights in float32 that are computed with in bfloat16 make other states."""
    model = braidlm.build(tiny("llama", 1))
    state = model.new_state()
    model.forward([[1, 2]], state=state)
    model.network.compute_dtype = torch.bfloat16
    with pytest.raises(StateError, match=r"is for float32 .* not bfloat16"):
        model.forward([[3]], state=state)


def test_states_of_another_cannot_be_saved_or_begun_in(tmp_path: Path) -> None:
    """Oracle: the sentences of a chat's three ways in: states at hand, states on disk, and saving."""
    model, store = chat_model("mamba2"), SessionStore(tmp_path)
    other = LanguageModel(braidlm.build(model.spec, seed=7).network, model.tokenizer, model.origin)
    messages = [{"role": "user", "content": "hello"}]
    with model.engine(limits=LIMITS) as engine, other.engine(limits=LIMITS) as foreign:
        chats, others = Chats(model, engine, store), Chats(other, foreign, store)
        turn = chats.begin_in(Session(), messages, SAMPLING)
        session = chats.finish(Session(), turn, [token for _, token in turn.handle])
        more = [*session.messages, *messages]
        with pytest.raises(StateError, match="another model"):
            others.begin_in(session, more, SAMPLING, snapshots=turn.handle.snapshots)
        with pytest.raises(StateError, match="another model"):
            others.save("talk", session, turn.handle.snapshots)
        assert "talk" not in store
        chats.save("talk", session, turn.handle.snapshots)
        with pytest.raises(StateError, match="another model"):
            others.begin_in(session, more, SAMPLING, name="talk")
        with pytest.raises(InputError, match="stored sessions are of the model itself"):
            chats.begin_in(session, more, SAMPLING, name="talk", adapter="one")
