"""Long chats on every family: what each turn runs, after appending, editing, and taking up from disk."""

from dataclasses import replace
from pathlib import Path

import pytest

from braidlm.engine import Usage
from braidlm.sessions import Chats, Session, SessionStore, Turn
from tests.families.tiny import TINY
from tests.sessions.chats import INTERVAL, LIMITS, SAMPLING, answered, chat_model


def used(turn: Turn) -> Usage:
    assert turn.handle.usage is not None
    return turn.handle.usage


@pytest.mark.parametrize("family", TINY)
def test_twenty_turns_and_an_edit(family: str) -> None:
    """Oracle: by hand, which tokens are new; and a cold run on the same ids."""
    model = chat_model(family)
    with model.engine(limits=LIMITS) as engine:
        chats, session, lengths = Chats(model, engine), Session(), [0]
        for number in range(20):
            known = len(session.ids)
            session, turn = answered(chats, session, f"say {number}")
            assert used(turn)[:2] == (max(0, known - 1), 0)
            lengths.append(len(session.ids))
        cold = model.generate(list(turn.prompt.ids), **vars(replace(SAMPLING, max_tokens=1)))
        assert cold  # the grammar narrows ours; that it is the same distribution is shown by the engine's own tests
        for k in (38, 20, 4):
            _, turn = answered(chats, session, "something else", keep=k)
            cached, recomputed, _, _ = used(turn)
            assert recomputed <= INTERVAL
            # What lies before the edited message was seen; behind it is only what is said now.
            assert cached + recomputed >= lengths[k // 2] - 1


@pytest.mark.parametrize("family", TINY)
def test_taken_up_from_disk(family: str, tmp_path: Path) -> None:
    """Oracle: the conversation that stayed in memory, to the bit; nothing is run again, whatever memory there is."""
    model, store = chat_model(family), SessionStore(tmp_path)
    with model.engine(limits=LIMITS) as engine:
        chats, session = Chats(model, engine, store), Session()
        for number in range(3):
            session, turn = answered(chats, session, f"say {number}")
        chats.save("talk", session, turn.handle.snapshots)
        more, _ = answered(chats, session, "go on")
    for memory in (0, 1 << 30):
        with model.engine(limits=replace(LIMITS, cache_memory=memory)) as engine:
            chats = Chats(model, engine, store)
            loaded = chats.open("talk").session
            assert loaded == session
            again, turn = answered(chats, loaded, "go on", name="talk")
            assert again.ids == more.ids
            assert used(turn)[:2] == (len(session.ids) - 1, 0)
            edited, turn = answered(chats, loaded, "no, that", keep=4, name="talk")
            assert used(turn).cached > 0
            assert edited.messages[:4] == session.messages[:4]


def test_deterministic_bits_after_disk(tmp_path: Path) -> None:
    """Oracle: log probabilities of a cold run on the same ids, to the bit."""
    model, store = chat_model("granitemoehybrid", deterministic=True), SessionStore(tmp_path)
    with model.engine(limits=LIMITS) as engine:
        chats = Chats(model, engine, store)
        session, turn = answered(chats, Session(), "hello")
        chats.save("talk", session, turn.handle.snapshots)
    with model.engine(limits=LIMITS) as engine:
        chats = Chats(model, engine, store)
        turn = chats.begin_in(
            session,
            [*session.messages, {"role": "user", "content": "more"}],
            replace(SAMPLING, temperature=0.0),
            name="talk",
        )
        warm = [(token.id, token.logprob) for _, token in turn.handle]
        assert used(turn).cached == len(session.ids) - 1
    cold = model.stream(list(turn.prompt.ids), max_tokens=12)
    assert warm == [(token.id, token.logprob) for token in cold]


def test_a_fork_of_the_first_messages(tmp_path: Path) -> None:
    """Oracle: by hand, which messages a branch has; the branch starts from a kept state, in a new engine too."""
    model, store = chat_model("mamba2"), SessionStore(tmp_path)
    with model.engine(limits=LIMITS) as engine:
        chats, session = Chats(model, engine, store), Session()
        for number in range(4):
            session, turn = answered(chats, session, f"say {number}")
        chats.save("talk", session, turn.handle.snapshots)
        chats.fork("talk", "branch", keep=6)
        chats.fork("talk", "copy")
    with model.engine(limits=LIMITS) as engine:
        chats = Chats(model, engine, store)
        branch = chats.open("branch").session
        assert branch.messages == session.messages[:6]
        _, turn = answered(chats, branch, "another way", name="branch")
        assert used(turn).cached > 0
        assert chats.open("copy").session == session
